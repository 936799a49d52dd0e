-- name: fold
WITH batch AS MATERIALIZED (
    SELECT position, occurred_at, event_type, connection_id, node_id, reason, payload,
           max(position) FILTER (WHERE event_type <> 'connection.opened') OVER (PARTITION BY connection_id)
               AS last_end,
           min(position) FILTER (WHERE event_type <> 'connection.opened') OVER (PARTITION BY connection_id)
               AS first_end
    FROM events
    WHERE shard = $1 AND position > $2 AND position <= $3 AND recorded_at BETWEEN $4 AND $5
      AND connection_id IS NOT NULL
      AND event_type IN ('connection.opened', 'connection.closed', 'connection.lost')
),
opened AS (
    SELECT DISTINCT ON (connection_id) connection_id, position, payload ->> 'release' AS release,
           payload ->> 'browser' AS browser
    FROM batch WHERE event_type = 'connection.opened' ORDER BY connection_id, position
),
kept AS (
    INSERT INTO {closes_open} (shard, connection_id, release, browser)
    SELECT DISTINCT ON (connection_id) $1, connection_id, coalesce(payload ->> 'release', ''),
           coalesce(payload ->> 'browser', 'other')
    FROM batch WHERE event_type = 'connection.opened' AND position > coalesce(last_end, 0)
    ORDER BY connection_id, position
    ON CONFLICT (shard, connection_id) DO NOTHING
),
gone AS (
    DELETE FROM {closes_open}
    WHERE shard = $1
      AND connection_id = ANY (ARRAY(SELECT connection_id FROM batch WHERE event_type <> 'connection.opened'))
),
ended AS (
    SELECT date_bin('1 minute', b.occurred_at, 'epoch') AS minute, coalesce(b.reason, 'unknown') AS reason,
           coalesce(b.payload ->> 'initiator', 'server') AS initiator, coalesce(b.node_id, '') AS node_id,
           coalesce(s.release, o.release, '') AS release, coalesce(s.browser, o.browser, 'other') AS browser
    FROM batch b
    LEFT JOIN opened o
        ON o.connection_id = b.connection_id AND o.position < b.position AND b.position = b.first_end
    LEFT JOIN LATERAL (
        SELECT k.release, k.browser FROM {closes_open} k
        WHERE k.shard = $1 AND k.connection_id = b.connection_id AND b.position = b.first_end
        OFFSET 0
    ) s ON true
    WHERE b.event_type <> 'connection.opened'
)
INSERT INTO {closes} AS c (shard, minute, reason, initiator, node_id, release, browser, closes)
SELECT $1, minute, reason, initiator, node_id, release, browser, count(*)
FROM ended
GROUP BY minute, reason, initiator, node_id, release, browser
ON CONFLICT (shard, minute, reason, initiator, node_id, release, browser)
DO UPDATE SET closes = c.closes + excluded.closes

-- name: view
CREATE OR REPLACE VIEW closes AS
SELECT minute, reason, initiator, node_id, release, browser, sum(closes)::bigint AS closes
FROM {closes}
GROUP BY minute, reason, initiator, node_id, release, browser;
COMMENT ON VIEW closes IS
    'Disconnects per minute by reason, initiator, node, release and browser family, all shards.';
COMMENT ON COLUMN closes.minute IS 'Minute in which they ended (UTC).';
COMMENT ON COLUMN closes.reason IS 'Why they ended.';
COMMENT ON COLUMN closes.initiator IS 'Whose doing it was.';
COMMENT ON COLUMN closes.node_id IS 'Node that held them.';
COMMENT ON COLUMN closes.release IS 'Release of the application; empty: not told.';
COMMENT ON COLUMN closes.browser IS 'Browser family.';
COMMENT ON COLUMN closes.closes IS 'Connections that ended.'
