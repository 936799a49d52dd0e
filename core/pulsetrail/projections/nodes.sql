-- name: fold
INSERT INTO {nodes} AS n (
    shard, node_id, node_epoch, started_at, stopped_at, last_event_at, last_recorded_at, connections_opened,
    connections_ended, heartbeats_missed, version
)
SELECT $1, node_id, node_epoch,
       min(occurred_at) FILTER (WHERE event_type = 'node.started'),
       max(occurred_at) FILTER (WHERE event_type = 'node.stopped'),
       max(received_at),
       max(recorded_at),
       count(*) FILTER (WHERE event_type = 'connection.opened'),
       count(*) FILTER (WHERE event_type IN ('connection.closed', 'connection.lost')),
       count(*) FILTER (WHERE event_type = 'heartbeat.missed'),
       min(payload ->> 'version') FILTER (WHERE event_type = 'node.started')
FROM events
WHERE shard = $1 AND position > $2 AND position <= $3 AND recorded_at BETWEEN $4 AND $5
  AND node_id IS NOT NULL AND node_epoch IS NOT NULL
GROUP BY node_id, node_epoch
ON CONFLICT (shard, node_id, node_epoch) DO UPDATE SET
    started_at = least(n.started_at, excluded.started_at),
    stopped_at = greatest(n.stopped_at, excluded.stopped_at),
    last_event_at = greatest(n.last_event_at, excluded.last_event_at),
    last_recorded_at = greatest(n.last_recorded_at, excluded.last_recorded_at),
    connections_opened = n.connections_opened + excluded.connections_opened,
    connections_ended = n.connections_ended + excluded.connections_ended,
    heartbeats_missed = n.heartbeats_missed + excluded.heartbeats_missed,
    version = least(n.version, excluded.version)

-- name: view
CREATE OR REPLACE VIEW nodes AS
SELECT n.node_id, n.node_epoch, min(n.started_at) AS started_at, max(n.stopped_at) AS stopped_at,
       max(n.last_event_at) AS last_event_at,
       greatest(sum(n.connections_opened) - sum(n.connections_ended), 0)::bigint AS open_connections,
       sum(n.connections_opened)::bigint AS connections_opened, sum(n.connections_ended)::bigint AS connections_ended,
       sum(n.heartbeats_missed)::bigint AS heartbeats_missed, min(n.version) AS version,
       max(l.expires_at) AS lease_expires_at, max(l.fenced_at) AS fenced_at
FROM {nodes} n
LEFT JOIN node_lease l ON l.node_id = n.node_id AND l.epoch = n.node_epoch
GROUP BY n.node_id, n.node_epoch;
COMMENT ON VIEW nodes IS
    'One row per node and epoch, all shards: since when, until when, what it has open, its lease.';
COMMENT ON COLUMN nodes.node_id IS 'Name of the node.';
COMMENT ON COLUMN nodes.node_epoch IS 'Its incarnation, microseconds.';
COMMENT ON COLUMN nodes.started_at IS 'When it started.';
COMMENT ON COLUMN nodes.stopped_at IS 'When it stopped in order; NULL: it runs, or it was lost.';
COMMENT ON COLUMN nodes.last_event_at IS 'Newest event it is named in.';
COMMENT ON COLUMN nodes.open_connections IS 'Connections it has open.';
COMMENT ON COLUMN nodes.connections_opened IS 'Connections it has opened.';
COMMENT ON COLUMN nodes.connections_ended IS 'Those that have ended.';
COMMENT ON COLUMN nodes.heartbeats_missed IS 'Heartbeats its clients missed.';
COMMENT ON COLUMN nodes.version IS 'Version of Pulsetrail it runs.';
COMMENT ON COLUMN nodes.lease_expires_at IS 'Until when its lease runs; NULL: it gave it back.';
COMMENT ON COLUMN nodes.fenced_at IS 'When the reaper took its connections over.'
