-- name: begin
INSERT INTO projection_build (projection, version, fold_version, status)
VALUES ($1, 0, $2, 'balance')
ON CONFLICT (projection, version) DO NOTHING

-- name: enrol
INSERT INTO projection_checkpoint (shard, projection, version, position, status)
SELECT shard, $1, 0, truncated_before - 1, 'balance' FROM log_shard
ON CONFLICT (shard, projection, version) DO NOTHING

-- name: boundary
SELECT date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' - make_interval(days => $1)

-- name: shards
SELECT shard FROM log_shard ORDER BY shard

-- name: copy
INSERT INTO {target} SELECT * FROM {source}

-- name: copy_checkpoints
INSERT INTO projection_checkpoint (shard, projection, version, position, recorded_at, status)
SELECT shard, projection, $2, position, recorded_at, 'building'
FROM projection_checkpoint WHERE projection = $1 AND version = 0

-- name: prune_connections
WITH gone AS (
    DELETE FROM {live} WHERE shard = $1 AND last_recorded_at < $2 AND (ended_at IS NOT NULL OR opened_at IS NULL)
    RETURNING connection_id
)
DELETE FROM {balance} WHERE shard = $1 AND connection_id IN (SELECT connection_id FROM gone)

-- name: prune_counters_page
WITH gone AS (
    DELETE FROM {live} WHERE shard = $1 AND last_recorded_at < $2
    RETURNING client_ref, page_id
)
DELETE FROM {balance} WHERE shard = $1 AND (client_ref, page_id) IN (SELECT client_ref, page_id FROM gone)

-- name: prune_source_gaps_connection
WITH gone AS (
    DELETE FROM {live} WHERE shard = $1 AND last_recorded_at < $2 AND ended
    RETURNING connection_id
)
DELETE FROM {balance} WHERE shard = $1 AND connection_id IN (SELECT connection_id FROM gone)
