-- name: fold
WITH batch AS MATERIALIZED (
    SELECT position, recorded_at, event_type, source, connection_id, connection_seq, node_id, payload
    FROM events
    WHERE shard = $1 AND position > $2 AND position <= $3 AND recorded_at BETWEEN $4 AND $5
      AND (connection_seq IS NOT NULL OR event_type = 'events.dropped')
),
seen AS (
    SELECT connection_id, count(*)::integer AS events, max(connection_seq) AS last_seq, max(recorded_at) AS recorded_at,
           bool_or(event_type IN ('connection.closed', 'connection.lost', 'connection.end_reported_late')) AS ended
    FROM batch WHERE connection_seq IS NOT NULL AND connection_id IS NOT NULL
    GROUP BY connection_id
),
merged AS (
    SELECT b.connection_id, b.events + coalesce(s.events, 0) AS events, greatest(b.last_seq, s.last_seq) AS last_seq,
           b.recorded_at, b.ended OR coalesce(s.ended, false) AS ended
    FROM seen b
    LEFT JOIN LATERAL (
        SELECT k.events, k.last_seq, k.ended FROM {source_gaps_connection} k
        WHERE k.shard = $1 AND k.connection_id = b.connection_id
        OFFSET 0
    ) s ON true
),
complete AS (
    DELETE FROM {source_gaps_connection}
    WHERE shard = $1
      AND connection_id = ANY (ARRAY(SELECT connection_id FROM merged WHERE ended AND events = last_seq))
),
dropped AS (
    INSERT INTO {source_gaps_lane} AS l (shard, node_id, missing, last_recorded_at)
    SELECT $1, coalesce(node_id, ''), sum(coalesce(payload_integer(payload, 'count'), 1))::bigint, max(recorded_at)
    FROM batch WHERE event_type = 'events.dropped' AND payload ->> 'cause' = 'hole'
    GROUP BY coalesce(node_id, '')
    ON CONFLICT (shard, node_id) DO UPDATE SET
        missing = l.missing + excluded.missing,
        last_recorded_at = greatest(l.last_recorded_at, excluded.last_recorded_at)
)
INSERT INTO {source_gaps_connection} AS g (shard, connection_id, events, last_seq, ended, last_recorded_at)
SELECT $1, connection_id, events, last_seq, ended, recorded_at
FROM merged WHERE NOT (ended AND events = last_seq)
ON CONFLICT (shard, connection_id) DO UPDATE SET
    events = excluded.events,
    last_seq = excluded.last_seq,
    ended = excluded.ended,
    last_recorded_at = excluded.last_recorded_at

-- name: view
CREATE OR REPLACE VIEW source_gaps AS
SELECT shard, 'connection' AS kind, connection_id::text AS subject, (last_seq - events)::bigint AS missing,
       last_recorded_at
FROM {source_gaps_connection} WHERE last_seq <> events
UNION ALL
SELECT shard, 'lane', node_id, missing, last_recorded_at
FROM {source_gaps_lane} WHERE missing > 0;
COMMENT ON VIEW source_gaps IS
    'Holes in what the sources numbered; empty for ever, or an alert.';
COMMENT ON COLUMN source_gaps.shard IS 'Shard of the log.';
COMMENT ON COLUMN source_gaps.kind IS 'connection: its events have a hole; lane: a producer''s rows have one.';
COMMENT ON COLUMN source_gaps.subject IS 'Connection or node.';
COMMENT ON COLUMN source_gaps.missing IS 'Events that are not there; negative: numbered twice.';
COMMENT ON COLUMN source_gaps.last_recorded_at IS 'When the log took its newest numbered event.'
