-- name: deployment
SELECT shards, client_key FROM deployment

-- name: append
SELECT status, lane_seq, stored, head_position, head_recorded_at, skew_us
FROM append_events($1, $2, $3, $4, $5, $6)

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
       connection_id, connection_seq, node_id, node_epoch, client_ref, page_id, reason, close_code,
       convert_to(payload::text, 'UTF8')
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
SELECT c.relname AS name, i.inhrelid IS NOT NULL AS attached, coalesce(i.inhdetachpending, false) AS half_detached
FROM pg_class c
LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = 'events'::regclass
WHERE c.relkind = 'r' AND c.relname ~ '^events_[0-9]{8}$'
  AND c.relnamespace = (SELECT p.relnamespace FROM pg_class p WHERE p.oid = 'events'::regclass)
ORDER BY c.relname

-- name: hold_checkpoints
LOCK TABLE projection_checkpoint IN SHARE ROW EXCLUSIVE MODE

-- name: partition_ends
SELECT s.shard, e.position, e.recorded_at
FROM log_shard s
CROSS JOIN LATERAL (
    SELECT p.position, p.recorded_at FROM {partition} p WHERE p.shard = s.shard ORDER BY p.position DESC LIMIT 1
) e
ORDER BY s.shard

-- name: needed_by
SELECT DISTINCT c.projection
FROM projection_checkpoint c
JOIN unnest($1::smallint[], $2::bigint[]) AS e (shard, position) ON e.shard = c.shard
WHERE c.status <> 'retired' AND c.position < e.position
ORDER BY c.projection

-- name: truncate_before
UPDATE log_shard s SET truncated_before = e.position + 1
FROM unnest($1::smallint[], $2::bigint[]) AS e (shard, position)
WHERE e.shard = s.shard AND s.truncated_before <= e.position

-- name: detach_partition
ALTER TABLE events DETACH PARTITION {partition} CONCURRENTLY

-- name: finish_detaching
ALTER TABLE events DETACH PARTITION {partition} FINALIZE

-- name: archive_page
SELECT shard, position, row_to_json(p)::text FROM {partition} p
WHERE (shard, position) > ($1::smallint, $2::bigint)
ORDER BY shard, position
LIMIT $3

-- name: drop_partition
DROP TABLE {partition}

-- name: purge_dead_letters
DELETE FROM dead_letter WHERE expires_at < clock_timestamp()

-- name: purge_page_lanes
DELETE FROM page_lane l USING log_shard s
WHERE s.shard = l.shard AND l.received_at < clock_timestamp() - make_interval(days => $1)
  -- Not while an event of the page may be in the log: log verify compares the two.
  AND l.received_at < coalesce(
      (SELECT e.recorded_at - interval '1 minute' FROM events e
       WHERE e.shard = s.shard AND e.position >= s.truncated_before ORDER BY e.position LIMIT 1), 'infinity')
