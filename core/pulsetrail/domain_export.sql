-- name: try_metrics_lock
SELECT pg_try_advisory_lock(hashtextextended('pulsetrail metrics', 0))
