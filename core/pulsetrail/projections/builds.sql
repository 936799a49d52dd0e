-- name: begin
INSERT INTO projection_build (projection, version, fold_version, status)
SELECT $1, max(version) + 1, $2, 'building' FROM projection_build WHERE projection = $1
RETURNING version

-- name: builds
SELECT version, fold_version, status FROM projection_build
WHERE projection = $1 AND status IN ('live', 'building')
ORDER BY version
FOR UPDATE

-- name: enrol
INSERT INTO projection_checkpoint (shard, projection, version, position, status)
SELECT shard, $1, $2, truncated_before - 1, 'building' FROM log_shard

-- name: hold
SELECT shard, version, position FROM projection_checkpoint
WHERE projection = $1
ORDER BY shard, version
FOR UPDATE

-- name: retire
UPDATE projection_build SET status = 'retired' WHERE projection = $1 AND version = $2

-- name: forget
DELETE FROM projection_checkpoint WHERE projection = $1 AND version = $2

-- name: make_live
UPDATE projection_build SET status = 'live', promoted_at = now() WHERE projection = $1 AND version = $2

-- name: make_checkpoints_live
UPDATE projection_checkpoint SET status = 'live' WHERE projection = $1 AND version = $2 AND status = 'building'

-- name: pause
UPDATE projection_build SET paused = $2 WHERE projection = $1 AND status <> 'retired'

-- name: act_as_owner
SELECT set_config('role', rolname, true) FROM pg_roles
WHERE rolname = 'pulsetrail_owner' AND pg_has_role(session_user, oid, 'MEMBER')

-- name: grant
SELECT grant_if_role('SELECT, INSERT, UPDATE, DELETE', $1, 'pulsetrail_projector'),
       grant_if_role('SELECT', $1, 'pulsetrail_reader')
