-- name: shards
SELECT s.shard, s.head_position, s.truncated_before,
       -- Every row of a lane that became an event is one below the head.
       (SELECT coalesce(sum(l.stored), 0) FROM producer_lane l WHERE l.shard = s.shard)::bigint AS lanes_stored
FROM log_shard s ORDER BY s.shard

-- name: order
-- Rows of one append, and of no other, have one recorded_at; they come from one process, whose ids only grow.
WITH placed AS (
    SELECT position, recorded_at, event_id,
           lag(position, 1, $2 - 1) OVER by_position AS before_position,
           lag(recorded_at) OVER by_position AS before_recorded_at,
           lag(event_id) OVER by_position AS before_event_id
    FROM events WHERE shard = $1
    WINDOW by_position AS (ORDER BY position, recorded_at)
)
SELECT CASE WHEN position = before_position THEN 'double position'
            WHEN position > before_position + 1 THEN 'hole'
            ELSE 'swapped' END AS kind,
       position, before_position, recorded_at, before_recorded_at, event_id, before_event_id
FROM placed
WHERE position <> before_position + 1 OR recorded_at < before_recorded_at
   OR recorded_at = before_recorded_at AND event_id < before_event_id
ORDER BY position
LIMIT $3

-- name: turns
WITH told AS (
    SELECT position, connection_id, connection_seq,
           lag(position) OVER of_connection AS before_position,
           lag(connection_seq) OVER of_connection AS before_seq
    FROM events
    WHERE shard = $1 AND source = 'gateway' AND connection_id IS NOT NULL AND connection_seq IS NOT NULL
    WINDOW of_connection AS (PARTITION BY connection_id ORDER BY position)
)
SELECT position, connection_id, connection_seq, before_position, before_seq
FROM told WHERE connection_seq < before_seq
ORDER BY position
LIMIT $2

-- name: extent
SELECT count(*) AS events, max(position) AS last FROM events WHERE shard = $1

-- name: double_events
SELECT event_id, count(*) AS times, min(position) AS first, max(position) AS last
FROM events WHERE shard = $1
GROUP BY event_id HAVING count(*) > 1
ORDER BY min(position) LIMIT $2

-- name: double_accounts
SELECT page_id, payload ->> 'seq' AS seq, count(*) AS times, min(position) AS first, max(position) AS last
FROM events WHERE shard = $1 AND source = 'client' AND payload ? 'seq'
GROUP BY page_id, payload ->> 'seq' HAVING count(*) > 1
ORDER BY min(position) LIMIT $2

-- name: lanes
SELECT producer_id, last_seq, stored, skipped FROM producer_lane
WHERE shard = $1 AND last_seq <> stored + skipped
ORDER BY producer_id LIMIT $2

-- name: page_lanes
WITH told AS (
    SELECT page_id, range_agg(int8range(seq, seq + 1)) AS there
    FROM (SELECT page_id, CASE WHEN payload ->> 'seq' ~ '^[0-9]{1,16}$' THEN payload_integer(payload, 'seq') END AS seq
          FROM events WHERE shard = $1 AND source = 'client' AND page_id IS NOT NULL) e
    WHERE seq < 9007199254740992
    GROUP BY page_id
),
compared AS (
    SELECT page_id, coalesce(t.there, '{}') - coalesce(l.seen, '{}') AS unseen,
           -- What retention has dropped is in the lanes still.
           CASE WHEN $3 THEN coalesce(l.seen, '{}') - coalesce(t.there, '{}')
                                 - int8multirange(int8range(NULL, coalesce(l.forgotten_before, 0)))
                ELSE '{}' END AS missing
    FROM told t
    FULL JOIN (SELECT * FROM page_lane WHERE shard = $1) l USING (page_id)
)
SELECT page_id, unseen::text, missing::text FROM compared
WHERE NOT isempty(unseen) OR NOT isempty(missing)
ORDER BY page_id LIMIT $2

-- name: ends
WITH lives AS (
    SELECT connection_id,
           count(*) FILTER (WHERE event_type = 'connection.opened') AS openings,
           count(*) FILTER (WHERE event_type <> 'connection.opened') AS endings,
           min(node_id) AS node_id, min(node_epoch) AS node_epoch,
           max(recorded_at) < now() - make_interval(secs => $3) AS is_old
    FROM events
    WHERE shard = $1 AND event_type IN ('connection.opened', 'connection.closed', 'connection.lost')
    GROUP BY connection_id
),
over AS (
    SELECT node_id, epoch FROM node_lease WHERE fenced_at < now() - make_interval(secs => $3)
    UNION
    SELECT node_id, node_epoch FROM events
    WHERE event_type = 'node.stopped' AND recorded_at < now() - make_interval(secs => $3)
    UNION
    SELECT e.node_id, l.node_epoch
    FROM (SELECT node_id, max(node_epoch) AS node_epoch FROM events
          WHERE event_type = 'node.started' AND recorded_at < now() - make_interval(secs => $3)
          GROUP BY node_id) e
    JOIN (SELECT DISTINCT node_id, node_epoch FROM lives WHERE endings = 0) l
        ON l.node_id = e.node_id AND l.node_epoch < e.node_epoch
    UNION
    -- Append sees to it that who opens a connection has a lease; without one it has been given back.
    SELECT DISTINCT l.node_id, l.node_epoch
    FROM lives l
    WHERE l.endings = 0 AND l.is_old
      AND NOT EXISTS (SELECT FROM node_lease n WHERE n.node_id = l.node_id AND n.epoch = l.node_epoch)
)
SELECT CASE WHEN l.openings > 1 THEN 'two openings'
            WHEN l.endings > 1 THEN 'two ends'
            WHEN l.openings = 0 THEN 'no opening'
            ELSE 'no end' END AS kind,
       l.connection_id, l.openings, l.endings, l.node_id, l.node_epoch
FROM lives l
LEFT JOIN over o ON o.node_id = l.node_id AND o.epoch = l.node_epoch
WHERE l.openings > 1 OR l.endings > 1 OR (l.openings = 0 AND $4) OR (l.endings = 0 AND o.node_id IS NOT NULL)
ORDER BY l.connection_id
LIMIT $2

-- name: gaps
SELECT kind, subject, missing FROM source_gaps WHERE shard = $1 ORDER BY kind, subject LIMIT $2

-- name: checkpoints
SELECT c.shard, c.version, c.position, c.status, s.head_position, s.truncated_before, o.position AS balance
FROM projection_checkpoint c
JOIN projection_build b ON b.projection = c.projection AND b.version = c.version AND b.status = 'live'
JOIN log_shard s ON s.shard = c.shard
LEFT JOIN projection_checkpoint o ON o.projection = c.projection AND o.version = 0 AND o.shard = c.shard
WHERE c.projection = $1
ORDER BY c.shard

-- name: differing
SELECT coalesce(l.row_key, r.row_key) AS row_key, l.whole AS live, r.whole AS folded
FROM (SELECT to_jsonb(t) - $2::text[] AS row_key, to_jsonb(t) AS whole FROM {live} t WHERE shard = $1) l
FULL JOIN (SELECT to_jsonb(t) - $2::text[] AS row_key, to_jsonb(t) AS whole FROM {folded} t WHERE shard = $1) r
    ON l.row_key = r.row_key
WHERE l.whole IS DISTINCT FROM r.whole
ORDER BY 1
LIMIT $3

-- name: settings
SET LOCAL enable_nestloop = off;
SET LOCAL jit = off;
SET LOCAL temp_buffers = '64MB';
SET LOCAL work_mem = '64MB';
SET LOCAL statement_timeout = 0
