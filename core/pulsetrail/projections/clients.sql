-- name: fold
INSERT INTO {clients} AS c (
    shard, client_ref, first_seen_at, last_seen_at, connections_opened, connections_ended, heartbeats_missed,
    handshakes_rejected, account_events, last_recorded_at, last_ended_position, last_ended_at, last_reason
)
SELECT $1, client_ref, min(received_at), max(received_at),
       count(*) FILTER (WHERE event_type = 'connection.opened'),
       count(*) FILTER (WHERE event_type IN ('connection.closed', 'connection.lost')),
       count(*) FILTER (WHERE event_type = 'heartbeat.missed'),
       coalesce(sum(coalesce(payload_integer(payload, 'count'), 1)) FILTER (WHERE event_type = 'handshake.rejected'),
                0)::bigint,
       count(*) FILTER (WHERE source = 'client'),
       max(recorded_at),
       max(position) FILTER (WHERE event_type IN ('connection.closed', 'connection.lost')),
       (array_agg(occurred_at ORDER BY position DESC)
            FILTER (WHERE event_type IN ('connection.closed', 'connection.lost')))[1],
       (array_agg(reason ORDER BY position DESC)
            FILTER (WHERE event_type IN ('connection.closed', 'connection.lost')))[1]
FROM events
WHERE shard = $1 AND position > $2 AND position <= $3 AND recorded_at BETWEEN $4 AND $5
  AND client_ref IS NOT NULL
GROUP BY client_ref
ON CONFLICT (shard, client_ref) DO UPDATE SET
    first_seen_at = least(c.first_seen_at, excluded.first_seen_at),
    last_seen_at = greatest(c.last_seen_at, excluded.last_seen_at),
    connections_opened = c.connections_opened + excluded.connections_opened,
    connections_ended = c.connections_ended + excluded.connections_ended,
    heartbeats_missed = c.heartbeats_missed + excluded.heartbeats_missed,
    handshakes_rejected = c.handshakes_rejected + excluded.handshakes_rejected,
    account_events = c.account_events + excluded.account_events,
    last_recorded_at = greatest(c.last_recorded_at, excluded.last_recorded_at),
    last_ended_at = CASE WHEN excluded.last_ended_position IS NULL THEN c.last_ended_at
                         ELSE excluded.last_ended_at END,
    last_reason = CASE WHEN excluded.last_ended_position IS NULL THEN c.last_reason ELSE excluded.last_reason END,
    last_ended_position = greatest(c.last_ended_position, excluded.last_ended_position)

-- name: view
CREATE OR REPLACE VIEW clients AS
SELECT shard, client_ref, greatest(connections_opened - connections_ended, 0) AS open_connections,
       connections_opened, connections_ended, heartbeats_missed, handshakes_rejected, account_events,
       first_seen_at, last_seen_at, last_ended_at, last_reason, NULL::bigint AS flap_penalty
FROM {clients};
COMMENT ON VIEW clients IS
    'One row per client: what it has open, totals, last seen.';
COMMENT ON COLUMN clients.shard IS 'Shard of the log.';
COMMENT ON COLUMN clients.client_ref IS 'Pseudonym of the client; client_identity maps it back.';
COMMENT ON COLUMN clients.open_connections IS 'Connections it has open.';
COMMENT ON COLUMN clients.connections_opened IS 'Connections it has opened.';
COMMENT ON COLUMN clients.connections_ended IS 'Connections of it that have ended.';
COMMENT ON COLUMN clients.heartbeats_missed IS 'Heartbeats it did not answer in time.';
COMMENT ON COLUMN clients.handshakes_rejected IS 'Handshakes that it was refused.';
COMMENT ON COLUMN clients.account_events IS 'Events of its own account.';
COMMENT ON COLUMN clients.first_seen_at IS 'First arrival of an event about it.';
COMMENT ON COLUMN clients.last_seen_at IS 'Newest arrival of an event about it.';
COMMENT ON COLUMN clients.last_ended_at IS 'When its last connection to end did so.';
COMMENT ON COLUMN clients.last_reason IS 'Why that one ended.';
COMMENT ON COLUMN clients.flap_penalty IS 'Decaying penalty for flaps; NULL: not folded.'
