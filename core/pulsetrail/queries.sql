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
ORDER BY position

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
