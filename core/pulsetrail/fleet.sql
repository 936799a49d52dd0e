-- name: say_here
INSERT INTO process (process_id, role, address) VALUES ($1, $2, $3)
ON CONFLICT (process_id) DO UPDATE SET role = excluded.role, address = excluded.address, seen_at = now()

-- name: say_gone
DELETE FROM process WHERE process_id = $1

-- name: forget_silent
DELETE FROM process WHERE seen_at < now() - make_interval(secs => $1)

-- name: addresses
SELECT DISTINCT address FROM process WHERE seen_at >= now() - make_interval(secs => $1) ORDER BY address

-- name: bury
INSERT INTO dead_letter (shard, letter_id, stage, reason, raw, received_at, expires_at)
VALUES (0, $1, $2, $3, $4, 'epoch'::timestamptz + $5 * interval '1 microsecond', now() + $6 * interval '1 day')
ON CONFLICT DO NOTHING
