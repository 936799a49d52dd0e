-- name: enrol
INSERT INTO projection_checkpoint (shard, projection, version, status)
SELECT s.shard, b.projection, b.version, b.status
FROM projection_build b CROSS JOIN log_shard s
WHERE b.status IN ('live', 'building')
ON CONFLICT (shard, projection, version) DO NOTHING

-- name: behind
SELECT c.projection, c.version, c.shard, b.status = 'building' AS is_building
FROM projection_checkpoint c
JOIN projection_build b USING (projection, version)
JOIN log_shard s ON s.shard = c.shard
WHERE s.head_position > c.position AND b.status IN ('live', 'building') AND NOT b.paused
  AND (c.projection, b.fold_version) IN (SELECT * FROM unnest($1::text[], $2::integer[]))
ORDER BY c.shard, c.projection

-- name: take
SELECT c.position, c.recorded_at
FROM projection_checkpoint c
WHERE c.shard = $1 AND c.projection = $2 AND c.version = $3
  AND EXISTS (SELECT FROM projection_build b
              WHERE b.projection = $2 AND b.version = $3 AND b.status <> 'retired' AND NOT b.paused)
FOR UPDATE OF c SKIP LOCKED

-- name: measure
WITH next AS MATERIALIZED (
    SELECT position, recorded_at, row_number() OVER (ORDER BY position) AS place
    FROM (SELECT position, recorded_at FROM events
          WHERE shard = $1 AND position > $2 AND recorded_at >= $3 AND recorded_at < $5
          ORDER BY position LIMIT $4) AS batch
),
counted AS (
    SELECT count(*) AS found, coalesce(min(place) FILTER (WHERE position <> $2 + place) - 1, count(*)) AS contiguous
    FROM next
)
SELECT found, contiguous, (SELECT max(recorded_at) FROM next WHERE place <= contiguous) AS recorded_at
FROM counted

-- name: advance
UPDATE projection_checkpoint SET position = $5, recorded_at = $6
WHERE shard = $1 AND projection = $2 AND version = $3 AND position = $4

-- name: degrade
UPDATE projection_checkpoint SET status = 'degraded'
WHERE shard = $1 AND projection = $2 AND version = $3 AND status <> 'degraded'

-- name: set_aside
INSERT INTO dead_letter (shard, letter_id, stage, reason, raw, expires_at)
SELECT shard, event_id, $3, $4, convert_to(to_jsonb(e)::text, 'UTF8'), now() + interval '30 days'
FROM events e
WHERE shard = $1 AND position = $2
ON CONFLICT (shard, letter_id, stage) DO NOTHING

-- name: lag
SELECT b.projection, b.version, b.fold_version, b.status, b.paused, b.created_at, b.promoted_at,
       coalesce(bool_or(c.status = 'degraded'), false) AS degraded,
       coalesce(sum(s.head_position - coalesce(c.position, 0)), 0)::bigint AS lag_events,
       coalesce(max(CASE WHEN s.head_position > coalesce(c.position, 0) THEN
           extract(epoch FROM clock_timestamp() - (
               SELECT e.recorded_at FROM events e
               WHERE e.shard = c.shard AND e.position > c.position AND e.recorded_at >= c.recorded_at
               ORDER BY e.position LIMIT 1)) END), 0)::double precision AS lag_seconds,
       (SELECT count(*) FROM dead_letter d WHERE d.stage = b.projection) AS dead_letters
FROM projection_build b
CROSS JOIN log_shard s
LEFT JOIN projection_checkpoint c ON c.projection = b.projection AND c.version = b.version AND c.shard = s.shard
WHERE b.status IN ('live', 'building')
GROUP BY b.projection, b.version
ORDER BY b.projection, b.version

-- name: act_as
SELECT set_config('role', rolname, false) FROM pg_roles
WHERE rolname = 'pulsetrail_projector' AND pg_has_role(session_user, oid, 'MEMBER')
