-- name: fold
WITH batch AS MATERIALIZED (
    SELECT position, recorded_at, occurred_at, event_type, source, connection_id, connection_seq, node_id, node_epoch,
           client_ref, page_id, reason, close_code, payload
    FROM events
    WHERE shard = $1 AND position > $2 AND position <= $3 AND recorded_at BETWEEN $4 AND $5
      AND connection_id IS NOT NULL
      AND event_type IN ('connection.opened', 'connection.closed', 'connection.lost', 'connection.end_reported_late',
                         'connection.stale', 'heartbeat.missed', 'heartbeat.recovered', 'latency.sampled',
                         'socket.opened', 'socket.closed', 'backoff.scheduled')
),
totals AS (
    SELECT connection_id,
           max(recorded_at) AS last_recorded_at,
           (array_agg(client_ref ORDER BY position) FILTER (WHERE client_ref IS NOT NULL))[1] AS client_ref,
           (array_agg(page_id ORDER BY position) FILTER (WHERE page_id IS NOT NULL))[1] AS page_id,
           count(*) FILTER (WHERE event_type IN ('connection.closed', 'connection.lost'))::integer AS terminal_events,
           count(*) FILTER (WHERE event_type = 'heartbeat.missed')::integer AS heartbeats_missed,
           min(occurred_at) FILTER (WHERE event_type = 'connection.stale') AS stale_at,
           max(connection_seq) FILTER (WHERE event_type = 'connection.stale') AS stale_seq,
           max(connection_seq) FILTER (WHERE event_type = 'heartbeat.recovered') AS recovered_seq,
           sum(payload_integer(payload, 'count')) FILTER (WHERE event_type = 'latency.sampled')::bigint
               AS latency_count,
           sum(payload_integer(payload, 'sum_us')) FILTER (WHERE event_type = 'latency.sampled')::bigint
               AS latency_sum_us,
           min(payload_integer(payload, 'min_us')) FILTER (WHERE event_type = 'latency.sampled') AS latency_min_us,
           max(payload_integer(payload, 'max_us')) FILTER (WHERE event_type = 'latency.sampled') AS latency_max_us,
           count(*) FILTER (WHERE event_type = 'backoff.scheduled')::integer AS client_backoffs,
           sum(payload_integer(payload, 'delay_ms')) FILTER (WHERE event_type = 'backoff.scheduled')::bigint
               AS client_backoff_ms,
           max(payload_integer(payload, 'attempt')) FILTER (WHERE source = 'client') AS client_attempt
    FROM batch
    GROUP BY connection_id
),
opened AS (
    SELECT DISTINCT ON (connection_id) *
    FROM batch WHERE event_type = 'connection.opened' ORDER BY connection_id, position
),
ended AS (
    SELECT DISTINCT ON (connection_id) *
    FROM batch WHERE event_type IN ('connection.closed', 'connection.lost') ORDER BY connection_id, position
),
late AS (
    SELECT DISTINCT ON (connection_id) *
    FROM batch WHERE event_type = 'connection.end_reported_late' ORDER BY connection_id, position
),
missed AS (
    SELECT DISTINCT ON (connection_id) connection_id, connection_seq, payload -> 'layers' AS layers
    FROM batch WHERE event_type = 'heartbeat.missed' ORDER BY connection_id, connection_seq DESC, position
),
fastest AS (
    SELECT DISTINCT ON (connection_id) connection_id, payload_integer(payload, 'min_us') AS min_us,
           payload_integer(payload, 'clock_offset_ms') AS clock_offset_ms
    FROM batch WHERE event_type = 'latency.sampled' AND payload_integer(payload, 'clock_offset_ms') IS NOT NULL
    ORDER BY connection_id, payload_integer(payload, 'min_us'), position
),
client_opened AS (
    SELECT DISTINCT ON (connection_id) connection_id, occurred_at, coalesce(payload_integer(payload, 'seq'), 0) AS seq
    FROM batch WHERE event_type = 'socket.opened'
    ORDER BY connection_id, coalesce(payload_integer(payload, 'seq'), 0), occurred_at
),
client_closed AS (
    SELECT DISTINCT ON (connection_id) connection_id, occurred_at, coalesce(payload_integer(payload, 'seq'), 0) AS seq,
           payload_integer(payload, 'code') AS code, payload_boolean(payload, 'clean') AS clean,
           payload ->> 'cause' AS cause
    FROM batch WHERE event_type = 'socket.closed'
    ORDER BY connection_id, coalesce(payload_integer(payload, 'seq'), 0) DESC, occurred_at DESC
)
INSERT INTO {connections} AS c (
    shard, connection_id, last_recorded_at, client_ref, page_id, terminal_events, heartbeats_missed, stale_at,
    stale_seq, recovered_seq, latency_count, latency_sum_us, latency_min_us, latency_max_us, client_backoffs,
    client_backoff_ms, client_attempt,
    opened_at, opened_position, node_id, node_epoch, address_prefix, behind_proxy, tls, origin, app, release,
    browser, os, device, auth, resumed, hint_connection_id, hint_code, hint_clean, hint_cause, hint_attempt,
    hint_backoff_ms, hint_downtime_ms,
    ended_at, ended_position, ended_by, ended_source, reason, wire_code, initiator, phase, was_clean, duration_ms,
    classifier_version, client_code, detail, evidence,
    late_reported_at, late_reported_as, late_reason, late_initiator, late_wire_code, late_evidence,
    missed_seq, layers, clock_min_us, clock_offset_ms,
    client_opened_at, client_opened_seq, client_closed_at, client_closed_seq, client_closed_code,
    client_closed_clean, client_closed_cause
)
SELECT $1, t.connection_id, t.last_recorded_at, t.client_ref, t.page_id, t.terminal_events, t.heartbeats_missed,
       t.stale_at, t.stale_seq, t.recovered_seq, t.latency_count, t.latency_sum_us, t.latency_min_us,
       t.latency_max_us, t.client_backoffs, t.client_backoff_ms, t.client_attempt,
       o.occurred_at, o.position, coalesce(o.node_id, e.node_id), coalesce(o.node_epoch, e.node_epoch),
       CASE WHEN o.position IS NOT NULL THEN coalesce(o.payload ->> 'address_prefix', 'unknown') END,
       CASE WHEN o.position IS NOT NULL THEN coalesce((o.payload ->> 'behind_proxy')::boolean, false) END,
       CASE WHEN o.position IS NOT NULL THEN coalesce((o.payload ->> 'tls')::boolean, false) END,
       o.payload ->> 'origin', o.payload ->> 'app', o.payload ->> 'release',
       CASE WHEN o.position IS NOT NULL THEN coalesce(o.payload ->> 'browser', 'other') END,
       CASE WHEN o.position IS NOT NULL THEN coalesce(o.payload ->> 'os', 'other') END,
       CASE WHEN o.position IS NOT NULL THEN coalesce(o.payload ->> 'device', 'other') END,
       CASE WHEN o.position IS NOT NULL THEN coalesce(o.payload ->> 'auth', 'none') END,
       CASE WHEN o.position IS NOT NULL THEN coalesce((o.payload ->> 'resumed')::boolean, false) END,
       (o.payload -> 'previous' ->> 'connection')::uuid, payload_integer(o.payload -> 'previous', 'code'),
       (o.payload -> 'previous' ->> 'clean')::boolean, o.payload -> 'previous' ->> 'cause',
       payload_integer(o.payload -> 'previous', 'attempt'), payload_integer(o.payload -> 'previous', 'backoff_ms'),
       payload_integer(o.payload -> 'previous', 'downtime_ms'),
       e.occurred_at, e.position, e.event_type, e.source, e.reason, e.close_code,
       CASE WHEN e.position IS NOT NULL THEN coalesce(e.payload ->> 'initiator', 'server') END,
       CASE WHEN e.position IS NOT NULL THEN coalesce(e.payload ->> 'phase', 'open') END,
       (e.payload ->> 'was_clean')::boolean, payload_integer(e.payload, 'duration_ms'),
       payload_integer(e.payload, 'classifier_version'), payload_integer(e.payload, 'client_code'),
       e.payload ->> 'detail', e.payload -> 'evidence',
       l.occurred_at, l.payload ->> 'reported_as', l.reason, l.payload ->> 'initiator',
       l.close_code, l.payload -> 'evidence',
       m.connection_seq, m.layers, f.min_us, f.clock_offset_ms,
       co.occurred_at, co.seq, cc.occurred_at, cc.seq, cc.code, cc.clean, cc.cause
FROM totals t
LEFT JOIN opened o USING (connection_id)
LEFT JOIN ended e USING (connection_id)
LEFT JOIN late l USING (connection_id)
LEFT JOIN missed m USING (connection_id)
LEFT JOIN fastest f USING (connection_id)
LEFT JOIN client_opened co USING (connection_id)
LEFT JOIN client_closed cc USING (connection_id)
ON CONFLICT (shard, connection_id) DO UPDATE SET
    last_recorded_at = greatest(c.last_recorded_at, excluded.last_recorded_at),
    client_ref = coalesce(c.client_ref, excluded.client_ref),
    page_id = coalesce(c.page_id, excluded.page_id),
    terminal_events = c.terminal_events + excluded.terminal_events,
    heartbeats_missed = c.heartbeats_missed + excluded.heartbeats_missed,
    stale_at = least(c.stale_at, excluded.stale_at),
    stale_seq = greatest(c.stale_seq, excluded.stale_seq),
    recovered_seq = greatest(c.recovered_seq, excluded.recovered_seq),
    latency_count = coalesce(c.latency_count + excluded.latency_count, c.latency_count, excluded.latency_count),
    latency_sum_us = coalesce(c.latency_sum_us + excluded.latency_sum_us, c.latency_sum_us, excluded.latency_sum_us),
    latency_min_us = least(c.latency_min_us, excluded.latency_min_us),
    latency_max_us = greatest(c.latency_max_us, excluded.latency_max_us),
    client_backoffs = c.client_backoffs + excluded.client_backoffs,
    client_backoff_ms =
        coalesce(c.client_backoff_ms + excluded.client_backoff_ms, c.client_backoff_ms, excluded.client_backoff_ms),
    client_attempt = greatest(c.client_attempt, excluded.client_attempt),
    opened_at = CASE WHEN c.opened_position IS NULL THEN excluded.opened_at ELSE c.opened_at END,
    address_prefix = CASE WHEN c.opened_position IS NULL THEN excluded.address_prefix ELSE c.address_prefix END,
    behind_proxy = CASE WHEN c.opened_position IS NULL THEN excluded.behind_proxy ELSE c.behind_proxy END,
    tls = CASE WHEN c.opened_position IS NULL THEN excluded.tls ELSE c.tls END,
    origin = CASE WHEN c.opened_position IS NULL THEN excluded.origin ELSE c.origin END,
    app = CASE WHEN c.opened_position IS NULL THEN excluded.app ELSE c.app END,
    release = CASE WHEN c.opened_position IS NULL THEN excluded.release ELSE c.release END,
    browser = CASE WHEN c.opened_position IS NULL THEN excluded.browser ELSE c.browser END,
    os = CASE WHEN c.opened_position IS NULL THEN excluded.os ELSE c.os END,
    device = CASE WHEN c.opened_position IS NULL THEN excluded.device ELSE c.device END,
    auth = CASE WHEN c.opened_position IS NULL THEN excluded.auth ELSE c.auth END,
    resumed = CASE WHEN c.opened_position IS NULL THEN excluded.resumed ELSE c.resumed END,
    hint_connection_id = CASE WHEN c.opened_position IS NULL
        THEN excluded.hint_connection_id ELSE c.hint_connection_id END,
    hint_code = CASE WHEN c.opened_position IS NULL THEN excluded.hint_code ELSE c.hint_code END,
    hint_clean = CASE WHEN c.opened_position IS NULL THEN excluded.hint_clean ELSE c.hint_clean END,
    hint_cause = CASE WHEN c.opened_position IS NULL THEN excluded.hint_cause ELSE c.hint_cause END,
    hint_attempt = CASE WHEN c.opened_position IS NULL THEN excluded.hint_attempt ELSE c.hint_attempt END,
    hint_backoff_ms = CASE WHEN c.opened_position IS NULL THEN excluded.hint_backoff_ms ELSE c.hint_backoff_ms END,
    hint_downtime_ms = CASE WHEN c.opened_position IS NULL THEN excluded.hint_downtime_ms ELSE c.hint_downtime_ms END,
    opened_position = CASE WHEN c.opened_position IS NULL THEN excluded.opened_position ELSE c.opened_position END,
    node_id = coalesce(c.node_id, excluded.node_id),
    node_epoch = coalesce(c.node_epoch, excluded.node_epoch),
    ended_at = CASE WHEN c.ended_position IS NULL THEN excluded.ended_at ELSE c.ended_at END,
    ended_by = CASE WHEN c.ended_position IS NULL THEN excluded.ended_by ELSE c.ended_by END,
    ended_source = CASE WHEN c.ended_position IS NULL THEN excluded.ended_source ELSE c.ended_source END,
    reason = CASE WHEN c.ended_position IS NULL THEN excluded.reason ELSE c.reason END,
    wire_code = CASE WHEN c.ended_position IS NULL THEN excluded.wire_code ELSE c.wire_code END,
    initiator = CASE WHEN c.ended_position IS NULL THEN excluded.initiator ELSE c.initiator END,
    phase = CASE WHEN c.ended_position IS NULL THEN excluded.phase ELSE c.phase END,
    was_clean = CASE WHEN c.ended_position IS NULL THEN excluded.was_clean ELSE c.was_clean END,
    duration_ms = CASE WHEN c.ended_position IS NULL THEN excluded.duration_ms ELSE c.duration_ms END,
    classifier_version = CASE WHEN c.ended_position IS NULL
        THEN excluded.classifier_version ELSE c.classifier_version END,
    client_code = CASE WHEN c.ended_position IS NULL THEN excluded.client_code ELSE c.client_code END,
    detail = CASE WHEN c.ended_position IS NULL THEN excluded.detail ELSE c.detail END,
    evidence = CASE WHEN c.ended_position IS NULL THEN excluded.evidence ELSE c.evidence END,
    ended_position = CASE WHEN c.ended_position IS NULL THEN excluded.ended_position ELSE c.ended_position END,
    late_reported_at = CASE WHEN c.late_reported_at IS NULL
        THEN excluded.late_reported_at ELSE c.late_reported_at END,
    late_reported_as = CASE WHEN c.late_reported_at IS NULL
        THEN excluded.late_reported_as ELSE c.late_reported_as END,
    late_reason = CASE WHEN c.late_reported_at IS NULL THEN excluded.late_reason ELSE c.late_reason END,
    late_initiator = CASE WHEN c.late_reported_at IS NULL THEN excluded.late_initiator ELSE c.late_initiator END,
    late_wire_code = CASE WHEN c.late_reported_at IS NULL THEN excluded.late_wire_code ELSE c.late_wire_code END,
    late_evidence = CASE WHEN c.late_reported_at IS NULL THEN excluded.late_evidence ELSE c.late_evidence END,
    layers = CASE WHEN excluded.missed_seq > coalesce(c.missed_seq, 0) THEN excluded.layers ELSE c.layers END,
    missed_seq = CASE WHEN excluded.missed_seq > coalesce(c.missed_seq, 0)
        THEN excluded.missed_seq ELSE c.missed_seq END,
    clock_offset_ms = CASE WHEN c.clock_min_us IS NULL OR excluded.clock_min_us < c.clock_min_us
        THEN excluded.clock_offset_ms ELSE c.clock_offset_ms END,
    clock_min_us = CASE WHEN c.clock_min_us IS NULL OR excluded.clock_min_us < c.clock_min_us
        THEN excluded.clock_min_us ELSE c.clock_min_us END,
    client_opened_at = CASE WHEN c.client_opened_at IS NULL
        OR (excluded.client_opened_seq, excluded.client_opened_at) < (c.client_opened_seq, c.client_opened_at)
        THEN excluded.client_opened_at ELSE c.client_opened_at END,
    client_opened_seq = CASE WHEN c.client_opened_at IS NULL
        OR (excluded.client_opened_seq, excluded.client_opened_at) < (c.client_opened_seq, c.client_opened_at)
        THEN excluded.client_opened_seq ELSE c.client_opened_seq END,
    client_closed_at = CASE WHEN c.client_closed_at IS NULL
        OR (excluded.client_closed_seq, excluded.client_closed_at) > (c.client_closed_seq, c.client_closed_at)
        THEN excluded.client_closed_at ELSE c.client_closed_at END,
    client_closed_code = CASE WHEN c.client_closed_at IS NULL
        OR (excluded.client_closed_seq, excluded.client_closed_at) > (c.client_closed_seq, c.client_closed_at)
        THEN excluded.client_closed_code ELSE c.client_closed_code END,
    client_closed_clean = CASE WHEN c.client_closed_at IS NULL
        OR (excluded.client_closed_seq, excluded.client_closed_at) > (c.client_closed_seq, c.client_closed_at)
        THEN excluded.client_closed_clean ELSE c.client_closed_clean END,
    client_closed_cause = CASE WHEN c.client_closed_at IS NULL
        OR (excluded.client_closed_seq, excluded.client_closed_at) > (c.client_closed_seq, c.client_closed_at)
        THEN excluded.client_closed_cause ELSE c.client_closed_cause END,
    client_closed_seq = CASE WHEN c.client_closed_at IS NULL
        OR (excluded.client_closed_seq, excluded.client_closed_at) > (c.client_closed_seq, c.client_closed_at)
        THEN excluded.client_closed_seq ELSE c.client_closed_seq END

-- name: view
CREATE OR REPLACE VIEW connections AS
SELECT c.shard, c.connection_id, c.client_ref, c.page_id, c.node_id, c.node_epoch,
       c.opened_at, c.ended_at, c.opened_at IS NOT NULL AND c.ended_at IS NULL AS is_open,
       c.ended_at IS NULL AND c.stale_seq IS NOT NULL AND c.stale_seq > coalesce(c.recovered_seq, 0) AS is_stale,
       c.duration_ms, c.reason, c.initiator, c.phase, c.wire_code, c.client_code, c.was_clean, c.detail,
       c.ended_by, c.ended_source, c.classifier_version, c.evidence,
       c.address_prefix, c.behind_proxy, c.tls, c.origin, c.app, c.release, c.browser, c.os, c.device, c.auth,
       c.resumed,
       c.heartbeats_missed, c.stale_at, c.layers,
       c.latency_count, c.latency_min_us, c.latency_max_us,
       c.latency_sum_us / nullif(c.latency_count, 0) AS latency_mean_us, c.clock_offset_ms,
       (SELECT p.connection_id FROM {connections} p
        WHERE p.shard = c.shard AND p.client_ref = c.client_ref AND p.opened_at < c.opened_at
          AND (p.connection_id = c.hint_connection_id
               OR c.hint_connection_id IS NULL AND p.page_id IS NOT DISTINCT FROM c.page_id)
        ORDER BY p.opened_at DESC LIMIT 1) AS previous_connection_id,
       (SELECT p.reason FROM {connections} p
        WHERE p.shard = c.shard AND p.client_ref = c.client_ref AND p.opened_at < c.opened_at
          AND (p.connection_id = c.hint_connection_id
               OR c.hint_connection_id IS NULL AND p.page_id IS NOT DISTINCT FROM c.page_id)
        ORDER BY p.opened_at DESC LIMIT 1) AS previous_reason,
       (SELECT (extract(epoch FROM c.opened_at - p.ended_at) * 1000)::bigint FROM {connections} p
        WHERE p.shard = c.shard AND p.client_ref = c.client_ref AND p.opened_at < c.opened_at
          AND (p.connection_id = c.hint_connection_id
               OR c.hint_connection_id IS NULL AND p.page_id IS NOT DISTINCT FROM c.page_id)
        ORDER BY p.opened_at DESC LIMIT 1) AS gap_ms,
       c.hint_connection_id, c.hint_code, c.hint_clean, c.hint_cause, c.hint_attempt, c.hint_backoff_ms,
       c.hint_downtime_ms,
       c.client_opened_at, c.client_closed_at, c.client_closed_code, c.client_closed_clean, c.client_closed_cause,
       c.client_backoffs, c.client_backoff_ms, c.client_attempt,
       c.late_reported_at, c.late_reported_as, c.late_reason, c.late_initiator, c.late_wire_code, c.late_evidence,
       c.terminal_events, c.opened_position, c.ended_position, c.last_recorded_at,
       NULL::text AS verdict
FROM {connections} c;
COMMENT ON VIEW connections IS
    'One row per connection: who, where, opened, ended and why, evidence, heartbeats, latency, '
    'the client''s account, the connection before.';
COMMENT ON COLUMN connections.shard IS 'Shard of the log.';
COMMENT ON COLUMN connections.connection_id IS 'Minted by the gateway (UUIDv7).';
COMMENT ON COLUMN connections.client_ref IS 'Pseudonym of the client; client_identity maps it back.';
COMMENT ON COLUMN connections.page_id IS 'Page load of the client.';
COMMENT ON COLUMN connections.node_id IS 'Node that held it.';
COMMENT ON COLUMN connections.node_epoch IS 'Incarnation of the node, microseconds.';
COMMENT ON COLUMN connections.opened_at IS 'When the gateway opened it; NULL: only a client speaks of it.';
COMMENT ON COLUMN connections.ended_at IS 'When its terminal event happened; NULL: open.';
COMMENT ON COLUMN connections.is_open IS 'Opened and not ended.';
COMMENT ON COLUMN connections.is_stale IS 'Open, and it misses its heartbeats.';
COMMENT ON COLUMN connections.duration_ms IS 'Age at the end, as the gateway measured it.';
COMMENT ON COLUMN connections.reason IS 'Why it ended, from the closed list.';
COMMENT ON COLUMN connections.initiator IS 'Whose doing the end was.';
COMMENT ON COLUMN connections.phase IS 'How far it had come.';
COMMENT ON COLUMN connections.wire_code IS 'Close code that was on the wire.';
COMMENT ON COLUMN connections.client_code IS 'Close code that the client sent.';
COMMENT ON COLUMN connections.was_clean IS 'Both close frames were exchanged.';
COMMENT ON COLUMN connections.detail IS 'What the close frame or the error said, capped.';
COMMENT ON COLUMN connections.ended_by IS 'Terminal event: connection.closed or connection.lost.';
COMMENT ON COLUMN connections.ended_source IS 'Who wrote the terminal event.';
COMMENT ON COLUMN connections.classifier_version IS 'Version of the classifier that gave the reason.';
COMMENT ON COLUMN connections.evidence IS 'What the gateway knew at the end.';
COMMENT ON COLUMN connections.address_prefix IS 'Network of the client (/24 or /48).';
COMMENT ON COLUMN connections.behind_proxy IS 'It came through a trusted proxy.';
COMMENT ON COLUMN connections.tls IS 'The gateway itself terminated TLS.';
COMMENT ON COLUMN connections.origin IS 'Origin of the page.';
COMMENT ON COLUMN connections.app IS 'Application, as the client says.';
COMMENT ON COLUMN connections.release IS 'Release of the application.';
COMMENT ON COLUMN connections.browser IS 'Browser family.';
COMMENT ON COLUMN connections.os IS 'Operating system.';
COMMENT ON COLUMN connections.device IS 'Kind of device.';
COMMENT ON COLUMN connections.auth IS 'How the client proved who it is.';
COMMENT ON COLUMN connections.resumed IS 'The client got every update it had missed.';
COMMENT ON COLUMN connections.heartbeats_missed IS 'Heartbeats it did not answer in time.';
COMMENT ON COLUMN connections.stale_at IS 'When it was first found stale.';
COMMENT ON COLUMN connections.layers IS 'Layers that answered at the last missed heartbeat.';
COMMENT ON COLUMN connections.latency_count IS 'Heartbeat round trips measured.';
COMMENT ON COLUMN connections.latency_min_us IS 'Shortest heartbeat round trip.';
COMMENT ON COLUMN connections.latency_max_us IS 'Longest heartbeat round trip.';
COMMENT ON COLUMN connections.latency_mean_us IS 'Mean heartbeat round trip.';
COMMENT ON COLUMN connections.clock_offset_ms IS 'Server minus client, at the shortest round trip.';
COMMENT ON COLUMN connections.previous_connection_id IS
    'The connection before: the one its handshake named, else the last of the same page.';
COMMENT ON COLUMN connections.previous_reason IS 'Why that one ended.';
COMMENT ON COLUMN connections.gap_ms IS
    'From the end of that one to this opening; negative: they overlapped; NULL: it is open.';
COMMENT ON COLUMN connections.hint_connection_id IS 'Handshake hint: the previous connection.';
COMMENT ON COLUMN connections.hint_code IS 'Handshake hint: close code of the previous connection.';
COMMENT ON COLUMN connections.hint_clean IS 'Handshake hint: the previous end was clean.';
COMMENT ON COLUMN connections.hint_cause IS 'Handshake hint: why the previous one ended, says the client.';
COMMENT ON COLUMN connections.hint_attempt IS 'Handshake hint: attempts it took.';
COMMENT ON COLUMN connections.hint_backoff_ms IS 'Handshake hint: the backoff it waited before this connection.';
COMMENT ON COLUMN connections.hint_downtime_ms IS 'Handshake hint: how long the client was without a connection.';
COMMENT ON COLUMN connections.client_opened_at IS 'Client''s account: when its socket opened.';
COMMENT ON COLUMN connections.client_closed_at IS 'Client''s account: when its socket closed.';
COMMENT ON COLUMN connections.client_closed_code IS 'Client''s account: close code that it saw.';
COMMENT ON COLUMN connections.client_closed_clean IS 'Client''s account: wasClean.';
COMMENT ON COLUMN connections.client_closed_cause IS 'Client''s account: why it closed.';
COMMENT ON COLUMN connections.client_backoffs IS 'Client''s account: waits it scheduled.';
COMMENT ON COLUMN connections.client_backoff_ms IS 'Client''s account: sum of the delays it planned.';
COMMENT ON COLUMN connections.client_attempt IS 'Client''s account: highest attempt it counted.';
COMMENT ON COLUMN connections.late_reported_at IS 'When a fenced node says that it ended.';
COMMENT ON COLUMN connections.late_reported_as IS 'Terminal event that the fenced node wrote.';
COMMENT ON COLUMN connections.late_reason IS 'Reason in the late report.';
COMMENT ON COLUMN connections.late_initiator IS 'Initiator in the late report.';
COMMENT ON COLUMN connections.late_wire_code IS 'Close code in the late report.';
COMMENT ON COLUMN connections.late_evidence IS 'Evidence in the late report.';
COMMENT ON COLUMN connections.terminal_events IS 'Terminal events: 0 while open, else 1.';
COMMENT ON COLUMN connections.opened_position IS 'Place of connection.opened in the shard.';
COMMENT ON COLUMN connections.ended_position IS 'Place of the terminal event in the shard.';
COMMENT ON COLUMN connections.last_recorded_at IS 'When the log took the newest event folded here.';
COMMENT ON COLUMN connections.verdict IS 'What both accounts say together; NULL: not judged.'
