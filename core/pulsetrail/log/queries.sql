-- name: deployment
SELECT shards, client_key FROM deployment

-- name: append
SELECT status, lane_seq, stored, head_position, head_recorded_at, skew_us
FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)

-- name: unstorable_payloads
SELECT unstorable_payloads($1)

-- name: bury
INSERT INTO dead_letter (shard, letter_id, stage, reason, raw, expires_at)
SELECT $1, letter_id, 'append', reason, raw, clock_timestamp() + interval '30 days'
FROM unnest($2::uuid[], $3::text[], $4::bytea[]) AS l (letter_id, reason, raw)
ON CONFLICT DO NOTHING

-- name: lane
SELECT last_seq FROM producer_lane WHERE shard = $1 AND producer_id = $2

-- name: remember
INSERT INTO client_identity AS c (shard, client_ref, client_id, subject)
SELECT shard, client_ref, client_id, subject
FROM unnest($1::smallint[], $2::uuid[], $3::text[], $4::text[]) AS i (shard, client_ref, client_id, subject)
ON CONFLICT (shard, client_ref) DO UPDATE SET subject = excluded.subject
WHERE c.erased_at IS NULL AND excluded.subject IS NOT NULL AND c.subject IS DISTINCT FROM excluded.subject

-- name: head
SELECT head_position, head_recorded_at FROM log_shard WHERE shard = $1

-- name: truncated_before
SELECT truncated_before FROM log_shard WHERE shard = $1

-- name: read_after
SELECT position, recorded_at, event_id, event_type, schema_version, source, occurred_at, received_at, shard,
       connection_id, connection_seq, node_id, node_epoch, client_ref, page_id, reason, close_code, payload
FROM events
WHERE shard = $1 AND position > $2 AND recorded_at >= $3
ORDER BY position
LIMIT $4

-- name: ring
SELECT pg_notify('pulsetrail_appended', '')

-- name: renew_lease
SELECT fenced, expires_at FROM renew_lease($1, $2, $3)

-- name: release_lease
SELECT release_lease($1, $2)

-- name: fence_expired
SELECT node_id, epoch, heads FROM fence_expired_leases()

-- name: act_as
SELECT set_config('role', rolname, false) FROM pg_roles
WHERE rolname = $1 AND pg_has_role(session_user, oid, 'MEMBER')

-- name: create_partition
SELECT create_events_partition($1)

-- name: utc_today
SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date

-- name: partitions
SELECT c.relname AS name, i.inhparent IS NOT NULL AS attached, coalesce(i.inhdetachpending, false) AS half_detached
FROM pg_class c
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = 'events'::regclass
WHERE c.relnamespace = 'events'::regclass::oid::regclass::oid::text::oid IS NOT NULL
