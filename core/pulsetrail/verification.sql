-- name: holes
-- Positions that are not there, between the oldest that retention left and the head.
SELECT shard, 'positions ' || (before + 1) || ' to ' || (position - 1) || ' are not there' AS detail
FROM (SELECT shard, position, lag(position, 1, truncated_before - 1) OVER (PARTITION BY shard ORDER BY position) AS before
      FROM (SELECT e.shard, e.position, s.truncated_before
            FROM events e JOIN log_shard s USING (shard) WHERE e.position >= s.truncated_before
            UNION ALL SELECT shard, head_position + 1, truncated_before FROM log_shard) AS known) AS pairs
WHERE position > before + 1
ORDER BY shard, position LIMIT $1

-- name: double_positions
SELECT shard, 'position ' || position || ' is there ' || count(*) || ' times' AS detail
FROM events GROUP BY shard, position HAVING count(*) > 1
ORDER BY shard, position LIMIT $1

-- name: beyond_head
SELECT e.shard, 'position ' || e.position || ' is beyond the head, ' || s.head_position AS detail
FROM events e JOIN log_shard s USING (shard) WHERE e.position > s.head_position
ORDER BY e.shard, e.position LIMIT $1

-- name: time_goes_back
SELECT shard, 'position ' || position || ' was recorded before the one in front of it' AS detail
FROM (SELECT shard, position, recorded_at, lag(recorded_at) OVER (PARTITION BY shard ORDER BY position) AS before
      FROM events) AS pairs
WHERE recorded_at < before
ORDER BY shard, position LIMIT $1

-- name: double_events
SELECT min(shard) AS shard, 'event ' || event_id || ' is there ' || count(*) || ' times' AS detail
FROM events GROUP BY event_id HAVING count(*) > 1
ORDER BY 1, 2 LIMIT $1

-- name: openings
SELECT shard, 'connection ' || connection_id || ' was opened ' || count(*) || ' times' AS detail
FROM events WHERE event_type = 'connection.opened'
GROUP BY shard, connection_id HAVING count(*) > 1
ORDER BY 1, 2 LIMIT $1

-- name: double_ends
SELECT shard, 'connection ' || connection_id || ' ended ' || count(*) || ' times' AS detail
FROM events WHERE event_type IN ('connection.closed', 'connection.lost')
GROUP BY shard, connection_id HAVING count(*) > 1
ORDER BY 1, 2 LIMIT $1

-- name: ends_without_opening
SELECT e.shard, 'connection ' || e.connection_id || ' ended but was never opened' AS detail
FROM events e
JOIN log_shard s ON s.shard = e.shard AND s.truncated_before <= 1
WHERE e.event_type IN ('connection.closed', 'connection.lost')
  AND NOT EXISTS (SELECT FROM events o WHERE o.shard = e.shard AND o.connection_id = e.connection_id
                  AND o.event_type = 'connection.opened')
ORDER BY 1, 2 LIMIT $1

-- name: missing_ends
-- Open although its node cannot end it any more, for longer than the reaper needs.
SELECT o.shard, 'connection ' || o.connection_id || ' of node ' || o.node_id || ', which is gone, has no end' AS detail
FROM events o
LEFT JOIN node_lease l ON l.node_id = o.node_id AND l.epoch = o.node_epoch
WHERE o.event_type = 'connection.opened' AND o.recorded_at < now() - interval '1 minute'
  AND (l.node_id IS NULL OR least(l.fenced_at, l.expires_at) < now() - interval '1 minute')
  AND NOT EXISTS (SELECT FROM events e WHERE e.shard = o.shard AND e.connection_id = o.connection_id
                  AND e.event_type IN ('connection.closed', 'connection.lost'))
ORDER BY 1, 2 LIMIT $1

-- name: numbering
-- A gateway numbers its own events of a connection from 1 without holes.
SELECT shard, 'connection ' || connection_id || ' has ' || count(*) || ' numbered events, the last is number '
              || max(connection_seq) AS detail
FROM events e
JOIN log_shard s USING (shard)
WHERE connection_seq IS NOT NULL AND s.truncated_before <= 1
GROUP BY shard, connection_id
HAVING count(*) <> max(connection_seq) OR count(DISTINCT connection_seq) <> count(*)
ORDER BY 1, 2 LIMIT $1

-- name: lanes
-- What the lanes stored adds up to the head.
SELECT s.shard, 'the lanes stored ' || coalesce(sum(l.stored), 0) || ' events, the head is ' || s.head_position AS detail
FROM log_shard s LEFT JOIN producer_lane l USING (shard)
GROUP BY s.shard, s.head_position HAVING coalesce(sum(l.stored), 0) <> s.head_position
ORDER BY 1 LIMIT $1

-- name: checkpoints
SELECT c.shard, 'projection ' || c.projection || ' stands at ' || c.position || ', beyond the head, '
                || s.head_position AS detail
FROM projection_checkpoint c JOIN log_shard s USING (shard)
WHERE c.status <> 'retired' AND c.position > s.head_position
ORDER BY 1, 2 LIMIT $1

-- name: degraded
SELECT c.shard, 'projection ' || c.projection || ' is degraded: it set events aside, rebuild it' AS detail
FROM projection_checkpoint c WHERE c.status = 'degraded'
ORDER BY 1, 2 LIMIT $1

-- name: connections_projection
-- Up to its checkpoint, the projection knows of each connection what the log says.
WITH folded AS (
    SELECT c.shard, c.position FROM projection_checkpoint c
    JOIN projection_build b ON b.projection = c.projection AND b.version = c.version AND b.status = 'live'
    JOIN log_shard s ON s.shard = c.shard AND s.truncated_before <= 1
    WHERE c.projection = 'connections'
),
logged AS (
    SELECT e.shard, e.connection_id, bool_or(e.event_type = 'connection.opened') AS opened,
           bool_or(e.event_type <> 'connection.opened') AS ended
    FROM events e JOIN folded f ON f.shard = e.shard AND e.position <= f.position
    WHERE e.event_type IN ('connection.opened', 'connection.closed', 'connection.lost')
    GROUP BY e.shard, e.connection_id
),
known AS (
    SELECT c.shard, c.connection_id, c.opened_at IS NOT NULL AS opened, c.ended_at IS NOT NULL AS ended
    FROM connections c JOIN folded f ON f.shard = c.shard
    WHERE c.opened_at IS NOT NULL OR c.ended_at IS NOT NULL
)
SELECT shard, 'connection ' || connection_id || ' is '
              || CASE WHEN l.ended THEN 'ended' WHEN l.opened THEN 'open' ELSE 'unknown' END || ' in the log and '
              || CASE WHEN k.ended THEN 'ended' WHEN k.opened THEN 'open' ELSE 'unknown' END || ' in the projection'
              AS detail
FROM logged l FULL JOIN known k USING (shard, connection_id)
WHERE (l.opened, l.ended) IS DISTINCT FROM (k.opened, k.ended)
ORDER BY 1, 2 LIMIT $1

-- name: source_gaps
SELECT shard, kind || ' ' || subject || ' misses ' || missing || ' events' AS detail
FROM source_gaps ORDER BY 1, 2 LIMIT $1
