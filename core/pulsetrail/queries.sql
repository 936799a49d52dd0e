-- name: connection
SELECT c.*, i.client_id, i.subject
FROM connections c
LEFT JOIN client_identity i ON i.shard = c.shard AND i.client_ref = c.client_ref
WHERE c.connection_id = $1

-- name: connections_of_client
SELECT c.*, i.client_id, i.subject
FROM connections c
LEFT JOIN client_identity i ON i.shard = c.shard AND i.client_ref = c.client_ref
WHERE c.shard = $1 AND c.client_ref = $2
ORDER BY c.opened_at DESC NULLS LAST, c.connection_id DESC
LIMIT $3

-- name: client
SELECT c.*, i.client_id, i.subject
FROM clients c
LEFT JOIN client_identity i ON i.shard = c.shard AND i.client_ref = c.client_ref
WHERE c.shard = $1 AND c.client_ref = $2

-- name: timeline
SELECT shard, position, recorded_at, occurred_at, received_at, event_id, event_type, schema_version, source,
       connection_id, connection_seq, node_id, node_epoch, client_ref, page_id, reason, close_code, payload
FROM events
WHERE shard = $1 AND connection_id = $2 AND recorded_at >= $3
ORDER BY occurred_at, position

-- name: faults_between
SELECT shard, position, recorded_at, occurred_at, received_at, event_id, event_type, schema_version, source,
       connection_id, connection_seq, node_id, node_epoch, client_ref, page_id, reason, close_code, payload
FROM events
WHERE shard = $1 AND client_ref = $2 AND source = 'chaos' AND recorded_at >= $3
  AND occurred_at >= $4 AND ($5::timestamptz IS NULL OR occurred_at <= $5)
ORDER BY occurred_at, position
LIMIT 1000

-- name: timeline_of_client
SELECT * FROM (
    SELECT shard, position, recorded_at, occurred_at, received_at, event_id, event_type, schema_version, source,
           connection_id, connection_seq, node_id, node_epoch, client_ref, page_id, reason, close_code, payload
    FROM events
    WHERE shard = $1 AND client_ref = $2
    ORDER BY recorded_at DESC, position DESC
    LIMIT $3
) AS newest
ORDER BY occurred_at, position

-- name: client_by_subject
SELECT client_ref FROM client_identity WHERE subject = $1 ORDER BY first_seen_at DESC LIMIT 1

-- name: connections
SELECT c.*, i.client_id, i.subject
FROM connections c
LEFT JOIN client_identity i ON i.shard = c.shard AND i.client_ref = c.client_ref
WHERE ($1::text IS NULL OR c.reason = $1)
  AND ($2::text IS NULL OR c.node_id = $2)
  AND ($3::boolean IS NULL OR c.is_open = $3)
  AND ($4::timestamptz IS NULL OR c.opened_at >= $4)
  AND ($5::timestamptz IS NULL OR c.opened_at < $5)
ORDER BY c.opened_at DESC NULLS LAST, c.connection_id
LIMIT $6

-- name: open_counts
SELECT node_id, count(*) AS open_connections, count(*) FILTER (WHERE is_stale) AS stale
FROM connections WHERE is_open
GROUP BY node_id ORDER BY node_id

-- name: heads
SELECT s.shard, s.head_position, s.head_recorded_at, s.truncated_before FROM log_shard s ORDER BY s.shard

-- name: newest
SELECT shard, position, recorded_at, occurred_at, received_at, event_id, event_type, schema_version, source,
       connection_id, connection_seq, node_id, node_epoch, client_ref, page_id, reason, close_code, payload
FROM events
WHERE shard = $1 AND position <= $2
  AND ($3::text[] IS NULL OR event_type = ANY ($3)) AND ($4::uuid IS NULL OR client_ref = $4)
ORDER BY position DESC
LIMIT $5

-- name: following
SELECT shard, position, recorded_at, occurred_at, received_at, event_id, event_type, schema_version, source,
       connection_id, connection_seq, node_id, node_epoch, client_ref, page_id, reason, close_code, payload
FROM events
WHERE shard = $1 AND position > $2 AND recorded_at >= $3
ORDER BY position
LIMIT $4
