-- name: counters
SELECT metric, label, initiator, bucket, value FROM counters

-- name: gauges
SELECT (SELECT count(*) FROM connections WHERE is_stale) AS stale,
       (SELECT coalesce(sum(abs(missing)), 0)::bigint FROM source_gaps) AS gaps

-- name: nodes
SELECT node_id, sum(open_connections)::bigint AS open_connections
FROM nodes
GROUP BY node_id
HAVING sum(open_connections) > 0 OR max(last_event_at) > now() - interval '1 hour'
