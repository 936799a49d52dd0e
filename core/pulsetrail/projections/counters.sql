-- name: fold
WITH batch AS MATERIALIZED (
    SELECT position, recorded_at, occurred_at, event_type, client_ref, coalesce(page_id, '') AS page_id, reason, payload
    FROM events
    WHERE shard = $1 AND position > $2 AND position <= $3 AND recorded_at BETWEEN $4 AND $5
),
ended AS (
    SELECT coalesce(reason, 'unknown') AS reason, coalesce(payload ->> 'initiator', 'server') AS initiator,
           coalesce(payload_integer(payload, 'duration_ms'),
                    (extract(epoch FROM occurred_at) * 1000)::bigint
                        - payload_integer(payload, 'opened_at') / 1000) AS duration_ms
    FROM batch WHERE event_type IN ('connection.closed', 'connection.lost')
),
-- A page's openings and ends in turn: an opening after an end is a gap, an opening after anything a reconnect.
turns AS (
    SELECT client_ref, page_id, position, recorded_at, occurred_at, event_type = 'connection.opened' AS is_opening,
           reason, payload,
           lag(position) OVER page AS before_position,
           lag(event_type) OVER page AS before_type,
           lag(occurred_at) OVER page AS before_at,
           lag(coalesce(reason, 'unknown')) OVER page AS before_reason,
           lead(position) OVER page IS NULL AS is_last
    FROM batch
    WHERE client_ref IS NOT NULL
      AND event_type IN ('connection.opened', 'connection.closed', 'connection.lost')
    WINDOW page AS (PARTITION BY client_ref, page_id ORDER BY position)
),
reconnects AS (
    SELECT coalesce(CASE WHEN t.before_position IS NULL THEN s.reason
                         WHEN t.before_type <> 'connection.opened' THEN t.before_reason END,
                    t.payload -> 'previous' ->> 'cause', 'unknown') AS cause,
           greatest((extract(epoch FROM t.occurred_at
                         - CASE WHEN t.before_position IS NULL THEN s.ended_at
                                WHEN t.before_type <> 'connection.opened' THEN t.before_at END) * 1000)::bigint,
                    CASE WHEN s.ended_at IS NOT NULL OR t.before_type <> 'connection.opened' THEN 0 END) AS downtime_ms
    FROM turns t
    LEFT JOIN LATERAL (
        SELECT p.ended_at, p.reason, true AS known FROM {counters_page} p
        WHERE p.shard = $1 AND p.client_ref = t.client_ref AND p.page_id = t.page_id AND t.before_position IS NULL
        OFFSET 0
    ) s ON true
    WHERE t.is_opening
      AND (t.before_position IS NOT NULL OR s.known OR t.payload -> 'previous' ->> 'connection' IS NOT NULL)
),
pages AS (
    INSERT INTO {counters_page} AS p (shard, client_ref, page_id, last_recorded_at, ended_at, reason)
    SELECT $1, client_ref, page_id, recorded_at, CASE WHEN NOT is_opening THEN occurred_at END,
           CASE WHEN NOT is_opening THEN coalesce(reason, 'unknown') END
    FROM turns WHERE is_last
    ON CONFLICT (shard, client_ref, page_id) DO UPDATE SET
        last_recorded_at = excluded.last_recorded_at,
        ended_at = excluded.ended_at,
        reason = excluded.reason
),
latencies AS (
    SELECT (b.place - 1)::smallint AS bucket, b.count::bigint AS count
    FROM batch, jsonb_array_elements_text(payload -> 'buckets') WITH ORDINALITY AS b (count, place)
    WHERE event_type = 'latency.sampled'
),
deltas (metric, label, initiator, bucket, value) AS (
    SELECT 'events', event_type, '', -1, count(*) FROM batch GROUP BY event_type
    UNION ALL
    SELECT 'connections_opened', '', '', -1, count(*) FROM batch WHERE event_type = 'connection.opened'
    UNION ALL
    SELECT 'heartbeats_missed', '', '', -1, count(*) FROM batch WHERE event_type = 'heartbeat.missed'
    UNION ALL
    SELECT 'handshakes_rejected', coalesce(reason, 'unknown'), '', -1,
           sum(coalesce(payload_integer(payload, 'count'), 1))::bigint
    FROM batch WHERE event_type = 'handshake.rejected' GROUP BY reason
    UNION ALL
    SELECT 'disconnections', reason, initiator, -1, count(*) FROM ended GROUP BY reason, initiator
    UNION ALL
    SELECT 'duration', '', '', width_bucket(duration_ms - 1, {duration_bounds}), count(*)
    FROM ended WHERE duration_ms IS NOT NULL GROUP BY 4
    UNION ALL
    SELECT 'duration_ms', '', '', -1, sum(duration_ms)::bigint FROM ended
    UNION ALL
    SELECT 'reconnects', cause, '', -1, count(*) FROM reconnects GROUP BY cause
    UNION ALL
    SELECT 'downtime', '', '', width_bucket(downtime_ms - 1, {downtime_bounds}), count(*)
    FROM reconnects WHERE downtime_ms IS NOT NULL GROUP BY 4
    UNION ALL
    SELECT 'downtime_ms', '', '', -1, sum(downtime_ms)::bigint FROM reconnects
    UNION ALL
    SELECT 'heartbeat_rtt', '', '', bucket, sum(count)::bigint FROM latencies GROUP BY bucket
    UNION ALL
    SELECT 'heartbeat_rtt_us', '', '', -1, sum(payload_integer(payload, 'sum_us'))::bigint
    FROM batch WHERE event_type = 'latency.sampled'
)
INSERT INTO {counters} AS c (shard, metric, label, initiator, bucket, value)
SELECT $1, metric, label, initiator, bucket, value FROM deltas WHERE value <> 0
ON CONFLICT (shard, metric, label, initiator, bucket) DO UPDATE SET value = c.value + excluded.value

-- name: view
CREATE OR REPLACE VIEW counters AS
SELECT metric, label, initiator, bucket, sum(value)::bigint AS value
FROM {counters}
GROUP BY metric, label, initiator, bucket;
COMMENT ON VIEW counters IS
    'Monotonic totals behind the Prometheus counters, all shards.';
COMMENT ON COLUMN counters.metric IS 'What is counted, such as disconnections.';
COMMENT ON COLUMN counters.label IS 'Reason, cause or event type; empty: none.';
COMMENT ON COLUMN counters.initiator IS 'Initiator of disconnections; empty: none.';
COMMENT ON COLUMN counters.bucket IS 'Bucket of a histogram, from 0; -1: not a histogram.';
COMMENT ON COLUMN counters.value IS 'The total; it never falls.'
