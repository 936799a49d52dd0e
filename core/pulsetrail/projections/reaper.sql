-- name: contact
SELECT clock_timestamp() AS now

-- name: fence
-- In the select list, and behind OFFSET 0: as a table the function would be called whatever the time is.
SELECT (fenced).node_id, (fenced).epoch
FROM (SELECT fence_expired_leases() AS fenced FROM (SELECT WHERE clock_timestamp() < $1 OFFSET 0) AS in_time OFFSET 0) f

-- name: candidates
SELECT f.shard, f.node_id, f.epoch
FROM node_fence f
JOIN projection_build b ON b.projection = 'connections' AND b.status = 'live'
JOIN projection_checkpoint c ON c.shard = f.shard AND c.projection = b.projection AND c.version = b.version
WHERE c.position >= greatest(f.head_position, f.reaped_through)
  AND EXISTS (SELECT FROM connections o
              WHERE o.shard = f.shard AND o.node_id = f.node_id AND o.node_epoch = f.epoch AND o.is_open)
ORDER BY f.node_id, f.epoch, f.shard

-- name: hold_lease
SELECT expires_at FROM node_lease WHERE node_id = $1 AND epoch = $2 AND fenced_at IS NOT NULL FOR UPDATE

-- name: still_open
SELECT o.connection_id, o.client_ref, o.page_id,
       (extract(epoch FROM o.opened_at) * 1000000)::bigint AS opened_at,
       (extract(epoch FROM greatest($4, o.opened_at)) * 1000000)::bigint AS lost_at,
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now
FROM connections o
WHERE o.shard = $1 AND o.node_id = $2 AND o.node_epoch = $3 AND o.is_open
  AND NOT EXISTS (SELECT FROM events e
                  WHERE e.connection_id = o.connection_id AND e.shard = o.shard
                    AND e.event_type IN ('connection.closed', 'connection.lost'))
ORDER BY o.opened_at, o.connection_id
LIMIT $5

-- name: append
SELECT status, head_position
FROM append_events($1, $2, 1, $3, false, $4)

-- name: reaped
UPDATE node_fence SET reaped_through = greatest(reaped_through, $4)
WHERE shard = $1 AND node_id = $2 AND epoch = $3
