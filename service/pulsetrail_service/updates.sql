-- The stream of updates that several workers share.

-- name: ensure_stream
INSERT INTO update_stream (stream_epoch, head_position) VALUES ($1, 0) ON CONFLICT (singleton) DO NOTHING;

-- name: head
SELECT stream_epoch, head_position FROM update_stream;

-- The head row gives the place, as in the log: positions are gapless and visible in their order.
-- name: publish
WITH head AS (
    UPDATE update_stream SET head_position = head_position + 1 RETURNING stream_epoch, head_position
), published AS (
    INSERT INTO updates (stream_epoch, stream_position, topic, data)
    SELECT stream_epoch, head_position, $1, $2 FROM head
), forgotten AS (
    DELETE FROM updates USING head
    WHERE updates.stream_epoch <> head.stream_epoch OR updates.stream_position <= head.head_position - $3
)
SELECT stream_epoch, head_position FROM head;

-- name: read_after
SELECT stream_position, topic, data FROM updates
WHERE stream_epoch = $1 AND stream_position > $2
ORDER BY stream_position
LIMIT $3;

-- name: ring
SELECT pg_notify('pulsetrail_updates', '');
