-- What a payload holds may come from a browser: a value of another type is no value, and never an error.
CREATE FUNCTION payload_integer(payload jsonb, key text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(payload -> key) = 'number' AND abs((payload ->> key)::numeric) < 9e15
                THEN round((payload ->> key)::numeric)::bigint END
$$;
COMMENT ON FUNCTION payload_integer(jsonb, text) IS 'A number of a payload, rounded; NULL for anything else.';

CREATE FUNCTION payload_boolean(payload jsonb, key text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN jsonb_typeof(payload -> key) = 'boolean' THEN (payload ->> key)::boolean END
$$;
COMMENT ON FUNCTION payload_boolean(jsonb, text) IS 'A truth value of a payload; NULL for anything else.';

-- Builds ------------------------------------------------------------------------------------------------------------

CREATE TABLE projection_build (
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    promoted_at TIMESTAMP WITH TIME ZONE,
    version INTEGER NOT NULL,
    fold_version INTEGER NOT NULL,
    paused BOOLEAN DEFAULT false NOT NULL,
    projection TEXT NOT NULL,
    status TEXT NOT NULL,
    CONSTRAINT projection_build_pkey PRIMARY KEY (projection, version)
);
COMMENT ON TABLE projection_build IS 'Builds of the projections: which tables the views show, and which are being filled beside them.';
COMMENT ON COLUMN projection_build.created_at IS 'When it began.';
COMMENT ON COLUMN projection_build.promoted_at IS 'When the views were put in front of it.';
COMMENT ON COLUMN projection_build.version IS 'Number of the build.';
COMMENT ON COLUMN projection_build.fold_version IS 'Version of the fold that fills it; a projector with another version leaves it alone.';
COMMENT ON COLUMN projection_build.paused IS 'A person has stopped its folding.';
COMMENT ON COLUMN projection_build.projection IS 'Name of the projection.';
COMMENT ON COLUMN projection_build.status IS 'building, live (the views show it) or retired.';

-- connections --------------------------------------------------------------------------------------------------------

CREATE TABLE connections_v1 (
    shard SMALLINT NOT NULL,
    connection_id UUID NOT NULL,
    opened_at TIMESTAMP WITH TIME ZONE,
    ended_at TIMESTAMP WITH TIME ZONE,
    opened_position BIGINT,
    ended_position BIGINT,
    node_epoch BIGINT,
    duration_ms BIGINT,
    latency_sum_us BIGINT,
    latency_count BIGINT,
    latency_min_us BIGINT,
    latency_max_us BIGINT,
    clock_min_us BIGINT,
    clock_offset_ms BIGINT,
    stale_at TIMESTAMP WITH TIME ZONE,
    late_reported_at TIMESTAMP WITH TIME ZONE,
    client_opened_at TIMESTAMP WITH TIME ZONE,
    client_closed_at TIMESTAMP WITH TIME ZONE,
    client_backoff_ms BIGINT,
    hint_backoff_ms BIGINT,
    hint_downtime_ms BIGINT,
    last_recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    client_opened_seq BIGINT,
    client_closed_seq BIGINT,
    stale_seq INTEGER,
    recovered_seq INTEGER,
    missed_seq INTEGER,
    heartbeats_missed INTEGER NOT NULL,
    terminal_events INTEGER NOT NULL,
    wire_code INTEGER,
    client_code INTEGER,
    late_wire_code INTEGER,
    client_closed_code INTEGER,
    client_backoffs INTEGER NOT NULL,
    client_attempt INTEGER,
    hint_code INTEGER,
    hint_attempt INTEGER,
    classifier_version INTEGER,
    behind_proxy BOOLEAN,
    tls BOOLEAN,
    resumed BOOLEAN,
    was_clean BOOLEAN,
    client_closed_clean BOOLEAN,
    hint_clean BOOLEAN,
    client_ref UUID,
    hint_connection_id UUID,
    page_id TEXT,
    node_id TEXT,
    address_prefix TEXT,
    origin TEXT,
    app TEXT,
    release TEXT,
    browser TEXT,
    os TEXT,
    device TEXT,
    auth TEXT,
    ended_by TEXT,
    ended_source TEXT,
    reason TEXT,
    initiator TEXT,
    phase TEXT,
    detail TEXT,
    late_reported_as TEXT,
    late_reason TEXT,
    late_initiator TEXT,
    client_closed_cause TEXT,
    hint_cause TEXT,
    layers JSONB,
    evidence JSONB,
    late_evidence JSONB,
    PRIMARY KEY (shard, connection_id)
)
 WITH (fillfactor = 80);
CREATE INDEX ix_connections_v1_client ON connections_v1 (shard, client_ref, opened_at);
CREATE INDEX ix_connections_v1_ended ON connections_v1 (ended_at);
CREATE INDEX ix_connections_v1_open ON connections_v1 (shard, node_id, node_epoch) WHERE ended_at IS NULL AND opened_at IS NOT NULL;
CREATE INDEX ix_connections_v1_opened ON connections_v1 (opened_at);
CREATE INDEX ix_connections_v1_stale ON connections_v1 (shard) WHERE ended_at IS NULL AND stale_seq IS NOT NULL AND stale_seq > COALESCE(recovered_seq, 0);
COMMENT ON TABLE connections_v1 IS 'Projection connections, build 1; query the view connections.';
COMMENT ON COLUMN connections_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN connections_v1.connection_id IS 'Minted by the gateway (UUIDv7).';
COMMENT ON COLUMN connections_v1.opened_at IS 'When the gateway opened it; NULL: only a client speaks of it.';
COMMENT ON COLUMN connections_v1.ended_at IS 'When its terminal event happened; NULL: open.';
COMMENT ON COLUMN connections_v1.opened_position IS 'Place of connection.opened in the shard.';
COMMENT ON COLUMN connections_v1.ended_position IS 'Place of the terminal event in the shard.';
COMMENT ON COLUMN connections_v1.node_epoch IS 'Incarnation of the node, microseconds.';
COMMENT ON COLUMN connections_v1.duration_ms IS 'Age at the end, as the gateway measured it.';
COMMENT ON COLUMN connections_v1.latency_sum_us IS 'Sum of the heartbeat round trips.';
COMMENT ON COLUMN connections_v1.latency_count IS 'Heartbeat round trips measured.';
COMMENT ON COLUMN connections_v1.latency_min_us IS 'Shortest heartbeat round trip.';
COMMENT ON COLUMN connections_v1.latency_max_us IS 'Longest heartbeat round trip.';
COMMENT ON COLUMN connections_v1.clock_min_us IS 'Round trip at which clock_offset_ms was measured.';
COMMENT ON COLUMN connections_v1.clock_offset_ms IS 'Server minus client, at the shortest round trip.';
COMMENT ON COLUMN connections_v1.stale_at IS 'When it was first found stale.';
COMMENT ON COLUMN connections_v1.late_reported_at IS 'When a fenced node says that it ended.';
COMMENT ON COLUMN connections_v1.client_opened_at IS 'Client''s account: when its socket opened.';
COMMENT ON COLUMN connections_v1.client_closed_at IS 'Client''s account: when its socket closed.';
COMMENT ON COLUMN connections_v1.client_backoff_ms IS 'Client''s account: sum of the delays it planned.';
COMMENT ON COLUMN connections_v1.hint_backoff_ms IS 'Handshake hint: the backoff it waited before this connection.';
COMMENT ON COLUMN connections_v1.hint_downtime_ms IS 'Handshake hint: how long the client was without a connection.';
COMMENT ON COLUMN connections_v1.last_recorded_at IS 'When the log took the newest event folded here.';
COMMENT ON COLUMN connections_v1.client_opened_seq IS 'Sequence of the account in client_opened_at.';
COMMENT ON COLUMN connections_v1.client_closed_seq IS 'Sequence of the account in client_closed_at.';
COMMENT ON COLUMN connections_v1.stale_seq IS 'connection_seq of the last connection.stale.';
COMMENT ON COLUMN connections_v1.recovered_seq IS 'connection_seq of the last heartbeat.recovered.';
COMMENT ON COLUMN connections_v1.missed_seq IS 'connection_seq of the last heartbeat.missed.';
COMMENT ON COLUMN connections_v1.heartbeats_missed IS 'Heartbeats it did not answer in time.';
COMMENT ON COLUMN connections_v1.terminal_events IS 'Terminal events: 0 while open, else 1.';
COMMENT ON COLUMN connections_v1.wire_code IS 'Close code that was on the wire.';
COMMENT ON COLUMN connections_v1.client_code IS 'Close code that the client sent.';
COMMENT ON COLUMN connections_v1.late_wire_code IS 'Close code in the late report.';
COMMENT ON COLUMN connections_v1.client_closed_code IS 'Client''s account: close code that it saw.';
COMMENT ON COLUMN connections_v1.client_backoffs IS 'Client''s account: waits it scheduled.';
COMMENT ON COLUMN connections_v1.client_attempt IS 'Client''s account: highest attempt it counted.';
COMMENT ON COLUMN connections_v1.hint_code IS 'Handshake hint: close code of the previous connection.';
COMMENT ON COLUMN connections_v1.hint_attempt IS 'Handshake hint: attempts it took.';
COMMENT ON COLUMN connections_v1.classifier_version IS 'Version of the classifier that gave the reason.';
COMMENT ON COLUMN connections_v1.behind_proxy IS 'It came through a trusted proxy.';
COMMENT ON COLUMN connections_v1.tls IS 'The gateway itself terminated TLS.';
COMMENT ON COLUMN connections_v1.resumed IS 'The client got every update it had missed.';
COMMENT ON COLUMN connections_v1.was_clean IS 'Both close frames were exchanged.';
COMMENT ON COLUMN connections_v1.client_closed_clean IS 'Client''s account: wasClean.';
COMMENT ON COLUMN connections_v1.hint_clean IS 'Handshake hint: the previous end was clean.';
COMMENT ON COLUMN connections_v1.client_ref IS 'Pseudonym of the client; client_identity maps it back.';
COMMENT ON COLUMN connections_v1.hint_connection_id IS 'Handshake hint: the previous connection.';
COMMENT ON COLUMN connections_v1.page_id IS 'Page load of the client.';
COMMENT ON COLUMN connections_v1.node_id IS 'Node that held it.';
COMMENT ON COLUMN connections_v1.address_prefix IS 'Network of the client (/24 or /48).';
COMMENT ON COLUMN connections_v1.origin IS 'Origin of the page.';
COMMENT ON COLUMN connections_v1.app IS 'Application, as the client says.';
COMMENT ON COLUMN connections_v1.release IS 'Release of the application.';
COMMENT ON COLUMN connections_v1.browser IS 'Browser family.';
COMMENT ON COLUMN connections_v1.os IS 'Operating system.';
COMMENT ON COLUMN connections_v1.device IS 'Kind of device.';
COMMENT ON COLUMN connections_v1.auth IS 'How the client proved who it is.';
COMMENT ON COLUMN connections_v1.ended_by IS 'Terminal event: connection.closed or connection.lost.';
COMMENT ON COLUMN connections_v1.ended_source IS 'Who wrote the terminal event.';
COMMENT ON COLUMN connections_v1.reason IS 'Why it ended, from the closed list.';
COMMENT ON COLUMN connections_v1.initiator IS 'Whose doing the end was.';
COMMENT ON COLUMN connections_v1.phase IS 'How far it had come.';
COMMENT ON COLUMN connections_v1.detail IS 'What the close frame or the error said, capped.';
COMMENT ON COLUMN connections_v1.late_reported_as IS 'Terminal event that the fenced node wrote.';
COMMENT ON COLUMN connections_v1.late_reason IS 'Reason in the late report.';
COMMENT ON COLUMN connections_v1.late_initiator IS 'Initiator in the late report.';
COMMENT ON COLUMN connections_v1.client_closed_cause IS 'Client''s account: why it closed.';
COMMENT ON COLUMN connections_v1.hint_cause IS 'Handshake hint: why the previous one ended, says the client.';
COMMENT ON COLUMN connections_v1.layers IS 'Layers that answered at the last missed heartbeat.';
COMMENT ON COLUMN connections_v1.evidence IS 'What the gateway knew at the end.';
COMMENT ON COLUMN connections_v1.late_evidence IS 'Evidence in the late report.';

CREATE VIEW connections AS
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
       (SELECT p.connection_id FROM connections_v1 p
        WHERE p.shard = c.shard AND p.client_ref = c.client_ref AND p.opened_at < c.opened_at
          AND (p.connection_id = c.hint_connection_id
               OR c.hint_connection_id IS NULL AND p.page_id IS NOT DISTINCT FROM c.page_id)
        ORDER BY p.opened_at DESC LIMIT 1) AS previous_connection_id,
       (SELECT p.reason FROM connections_v1 p
        WHERE p.shard = c.shard AND p.client_ref = c.client_ref AND p.opened_at < c.opened_at
          AND (p.connection_id = c.hint_connection_id
               OR c.hint_connection_id IS NULL AND p.page_id IS NOT DISTINCT FROM c.page_id)
        ORDER BY p.opened_at DESC LIMIT 1) AS previous_reason,
       (SELECT (extract(epoch FROM c.opened_at - p.ended_at) * 1000)::bigint FROM connections_v1 p
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
FROM connections_v1 c;
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
COMMENT ON COLUMN connections.verdict IS 'What both accounts say together; NULL: not judged.';

-- closes -------------------------------------------------------------------------------------------------------------

CREATE TABLE closes_v1 (
    shard SMALLINT NOT NULL,
    minute TIMESTAMP WITH TIME ZONE NOT NULL,
    reason TEXT NOT NULL,
    initiator TEXT NOT NULL,
    node_id TEXT NOT NULL,
    release TEXT NOT NULL,
    browser TEXT NOT NULL,
    closes BIGINT NOT NULL,
    PRIMARY KEY (shard, minute, reason, initiator, node_id, release, browser)
)
 WITH (fillfactor = 80);
COMMENT ON TABLE closes_v1 IS 'Projection closes, build 1; query the view closes.';
COMMENT ON COLUMN closes_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN closes_v1.minute IS 'Minute in which they ended (UTC).';
COMMENT ON COLUMN closes_v1.reason IS 'Why they ended.';
COMMENT ON COLUMN closes_v1.initiator IS 'Whose doing it was.';
COMMENT ON COLUMN closes_v1.node_id IS 'Node that held them.';
COMMENT ON COLUMN closes_v1.release IS 'Release of the application; empty: not told.';
COMMENT ON COLUMN closes_v1.browser IS 'Browser family.';
COMMENT ON COLUMN closes_v1.closes IS 'Connections that ended.';
CREATE TABLE closes_open_v1 (
    shard SMALLINT NOT NULL,
    connection_id UUID NOT NULL,
    release TEXT NOT NULL,
    browser TEXT NOT NULL,
    PRIMARY KEY (shard, connection_id)
);
COMMENT ON TABLE closes_open_v1 IS 'Projection closes, build 1: what is needed when an open connection ends.';
COMMENT ON COLUMN closes_open_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN closes_open_v1.connection_id IS 'An open connection.';
COMMENT ON COLUMN closes_open_v1.release IS 'Release of its application.';
COMMENT ON COLUMN closes_open_v1.browser IS 'Its browser family.';

CREATE VIEW closes AS
SELECT minute, reason, initiator, node_id, release, browser, sum(closes)::bigint AS closes
FROM closes_v1
GROUP BY minute, reason, initiator, node_id, release, browser;
COMMENT ON VIEW closes IS
    'Disconnects per minute by reason, initiator, node, release and browser family, all shards.';
COMMENT ON COLUMN closes.minute IS 'Minute in which they ended (UTC).';
COMMENT ON COLUMN closes.reason IS 'Why they ended.';
COMMENT ON COLUMN closes.initiator IS 'Whose doing it was.';
COMMENT ON COLUMN closes.node_id IS 'Node that held them.';
COMMENT ON COLUMN closes.release IS 'Release of the application; empty: not told.';
COMMENT ON COLUMN closes.browser IS 'Browser family.';
COMMENT ON COLUMN closes.closes IS 'Connections that ended.';

-- clients ------------------------------------------------------------------------------------------------------------

CREATE TABLE clients_v1 (
    shard SMALLINT NOT NULL,
    client_ref UUID NOT NULL,
    first_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
    connections_opened BIGINT NOT NULL,
    connections_ended BIGINT NOT NULL,
    heartbeats_missed BIGINT NOT NULL,
    handshakes_rejected BIGINT NOT NULL,
    account_events BIGINT NOT NULL,
    last_recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_ended_position BIGINT,
    last_ended_at TIMESTAMP WITH TIME ZONE,
    last_reason TEXT,
    PRIMARY KEY (shard, client_ref)
)
 WITH (fillfactor = 80);
CREATE INDEX ix_clients_v1_last_seen ON clients_v1 (last_seen_at);
COMMENT ON TABLE clients_v1 IS 'Projection clients, build 1; query the view clients.';
COMMENT ON COLUMN clients_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN clients_v1.client_ref IS 'Pseudonym of the client; client_identity maps it back.';
COMMENT ON COLUMN clients_v1.first_seen_at IS 'First arrival of an event about it.';
COMMENT ON COLUMN clients_v1.last_seen_at IS 'Newest arrival of an event about it.';
COMMENT ON COLUMN clients_v1.connections_opened IS 'Connections it has opened.';
COMMENT ON COLUMN clients_v1.connections_ended IS 'Connections of it that have ended.';
COMMENT ON COLUMN clients_v1.heartbeats_missed IS 'Heartbeats it did not answer in time.';
COMMENT ON COLUMN clients_v1.handshakes_rejected IS 'Handshakes that it was refused.';
COMMENT ON COLUMN clients_v1.account_events IS 'Events of its own account.';
COMMENT ON COLUMN clients_v1.last_recorded_at IS 'When the log took the newest event folded here.';
COMMENT ON COLUMN clients_v1.last_ended_position IS 'Place of its last terminal event in the shard.';
COMMENT ON COLUMN clients_v1.last_ended_at IS 'When its last connection to end did so.';
COMMENT ON COLUMN clients_v1.last_reason IS 'Why that one ended.';

CREATE VIEW clients AS
SELECT shard, client_ref, greatest(connections_opened - connections_ended, 0) AS open_connections,
       connections_opened, connections_ended, heartbeats_missed, handshakes_rejected, account_events,
       first_seen_at, last_seen_at, last_ended_at, last_reason, NULL::bigint AS flap_penalty
FROM clients_v1;
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
COMMENT ON COLUMN clients.flap_penalty IS 'Decaying penalty for flaps; NULL: not folded.';

-- nodes --------------------------------------------------------------------------------------------------------------

CREATE TABLE nodes_v1 (
    shard SMALLINT NOT NULL,
    node_id TEXT NOT NULL,
    node_epoch BIGINT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    stopped_at TIMESTAMP WITH TIME ZONE,
    last_event_at TIMESTAMP WITH TIME ZONE NOT NULL,
    last_recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    connections_opened BIGINT NOT NULL,
    connections_ended BIGINT NOT NULL,
    heartbeats_missed BIGINT NOT NULL,
    version TEXT,
    PRIMARY KEY (shard, node_id, node_epoch)
)
 WITH (fillfactor = 50);
COMMENT ON TABLE nodes_v1 IS 'Projection nodes, build 1; query the view nodes.';
COMMENT ON COLUMN nodes_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN nodes_v1.node_id IS 'Name of the node.';
COMMENT ON COLUMN nodes_v1.node_epoch IS 'Its incarnation, microseconds.';
COMMENT ON COLUMN nodes_v1.started_at IS 'When it started; only in the node''s own shard.';
COMMENT ON COLUMN nodes_v1.stopped_at IS 'When it stopped in order; NULL: it runs, or it was lost.';
COMMENT ON COLUMN nodes_v1.last_event_at IS 'Newest event it is named in.';
COMMENT ON COLUMN nodes_v1.last_recorded_at IS 'When the log took the newest event folded here.';
COMMENT ON COLUMN nodes_v1.connections_opened IS 'Connections it has opened.';
COMMENT ON COLUMN nodes_v1.connections_ended IS 'Those that have ended.';
COMMENT ON COLUMN nodes_v1.heartbeats_missed IS 'Heartbeats its clients missed.';
COMMENT ON COLUMN nodes_v1.version IS 'Version of Pulsetrail it runs.';

CREATE VIEW nodes AS
SELECT n.node_id, n.node_epoch, min(n.started_at) AS started_at, max(n.stopped_at) AS stopped_at,
       max(n.last_event_at) AS last_event_at,
       greatest(sum(n.connections_opened) - sum(n.connections_ended), 0)::bigint AS open_connections,
       sum(n.connections_opened)::bigint AS connections_opened, sum(n.connections_ended)::bigint AS connections_ended,
       sum(n.heartbeats_missed)::bigint AS heartbeats_missed, min(n.version) AS version,
       max(l.expires_at) AS lease_expires_at, max(l.fenced_at) AS fenced_at
FROM nodes_v1 n
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
COMMENT ON COLUMN nodes.fenced_at IS 'When the reaper took its connections over.';

-- counters -----------------------------------------------------------------------------------------------------------

CREATE TABLE counters_v1 (
    shard SMALLINT NOT NULL,
    metric TEXT NOT NULL,
    label TEXT NOT NULL,
    initiator TEXT NOT NULL,
    bucket SMALLINT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (shard, metric, label, initiator, bucket)
)
 WITH (fillfactor = 20);
COMMENT ON TABLE counters_v1 IS 'Projection counters, build 1; query the view counters.';
COMMENT ON COLUMN counters_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN counters_v1.metric IS 'What is counted, such as disconnections.';
COMMENT ON COLUMN counters_v1.label IS 'Reason, cause or event type; empty: none.';
COMMENT ON COLUMN counters_v1.initiator IS 'Initiator of disconnections; empty: none.';
COMMENT ON COLUMN counters_v1.bucket IS 'Bucket of a histogram, from 0; -1: not a histogram.';
COMMENT ON COLUMN counters_v1.value IS 'The total; it never falls.';
CREATE TABLE counters_page_v1 (
    shard SMALLINT NOT NULL,
    client_ref UUID NOT NULL,
    page_id TEXT NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE,
    last_recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    reason TEXT,
    PRIMARY KEY (shard, client_ref, page_id)
)
 WITH (fillfactor = 80);
COMMENT ON TABLE counters_page_v1 IS 'Projection counters, build 1: where each page stands, for reconnects and downtime.';
COMMENT ON COLUMN counters_page_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN counters_page_v1.client_ref IS 'Pseudonym of the client.';
COMMENT ON COLUMN counters_page_v1.page_id IS 'Page load; empty: a client that names none.';
COMMENT ON COLUMN counters_page_v1.ended_at IS 'When its last connection ended; NULL: it is open.';
COMMENT ON COLUMN counters_page_v1.last_recorded_at IS 'When the log took its last turn.';
COMMENT ON COLUMN counters_page_v1.reason IS 'Why that one ended.';

CREATE VIEW counters AS
SELECT metric, label, initiator, bucket, sum(value)::bigint AS value
FROM counters_v1
GROUP BY metric, label, initiator, bucket;
COMMENT ON VIEW counters IS
    'Monotonic totals behind the Prometheus counters, all shards.';
COMMENT ON COLUMN counters.metric IS 'What is counted, such as disconnections.';
COMMENT ON COLUMN counters.label IS 'Reason, cause or event type; empty: none.';
COMMENT ON COLUMN counters.initiator IS 'Initiator of disconnections; empty: none.';
COMMENT ON COLUMN counters.bucket IS 'Bucket of a histogram, from 0; -1: not a histogram.';
COMMENT ON COLUMN counters.value IS 'The total; it never falls.';

-- source_gaps --------------------------------------------------------------------------------------------------------

CREATE TABLE source_gaps_connection_v1 (
    shard SMALLINT NOT NULL,
    connection_id UUID NOT NULL,
    last_recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    events INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    ended BOOLEAN NOT NULL,
    PRIMARY KEY (shard, connection_id)
)
 WITH (fillfactor = 80);
CREATE INDEX ix_source_gaps_connection_v1_gap ON source_gaps_connection_v1 (shard) WHERE last_seq <> events;
COMMENT ON TABLE source_gaps_connection_v1 IS 'Projection source_gaps, build 1: the numbering of connections; query the view source_gaps.';
COMMENT ON COLUMN source_gaps_connection_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN source_gaps_connection_v1.connection_id IS 'A connection that is open or incomplete.';
COMMENT ON COLUMN source_gaps_connection_v1.last_recorded_at IS 'When the log took its newest numbered event.';
COMMENT ON COLUMN source_gaps_connection_v1.events IS 'Numbered events in the log.';
COMMENT ON COLUMN source_gaps_connection_v1.last_seq IS 'Greatest number; more than events: some are missing.';
COMMENT ON COLUMN source_gaps_connection_v1.ended IS 'Its gateway has written its end.';
CREATE TABLE source_gaps_lane_v1 (
    shard SMALLINT NOT NULL,
    node_id TEXT NOT NULL,
    missing BIGINT NOT NULL,
    last_recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    PRIMARY KEY (shard, node_id)
);
COMMENT ON TABLE source_gaps_lane_v1 IS 'Projection source_gaps, build 1: holes in lanes; query the view source_gaps.';
COMMENT ON COLUMN source_gaps_lane_v1.shard IS 'Shard of the log.';
COMMENT ON COLUMN source_gaps_lane_v1.node_id IS 'Node whose lane has holes.';
COMMENT ON COLUMN source_gaps_lane_v1.missing IS 'Events that its shipper could not find any more.';
COMMENT ON COLUMN source_gaps_lane_v1.last_recorded_at IS 'When the log was told last.';

CREATE VIEW source_gaps AS
SELECT shard, 'connection' AS kind, connection_id::text AS subject, (last_seq - events)::bigint AS missing,
       last_recorded_at
FROM source_gaps_connection_v1 WHERE last_seq <> events
UNION ALL
SELECT shard, 'lane', node_id, missing, last_recorded_at
FROM source_gaps_lane_v1 WHERE missing > 0;
COMMENT ON VIEW source_gaps IS
    'Holes in what the sources numbered; empty for ever, or an alert.';
COMMENT ON COLUMN source_gaps.shard IS 'Shard of the log.';
COMMENT ON COLUMN source_gaps.kind IS 'connection: its events have a hole; lane: a producer''s rows have one.';
COMMENT ON COLUMN source_gaps.subject IS 'Connection or node.';
COMMENT ON COLUMN source_gaps.missing IS 'Events that are not there; negative: numbered twice.';
COMMENT ON COLUMN source_gaps.last_recorded_at IS 'When the log took its newest numbered event.';

-- The first builds --------------------------------------------------------------------------------------------------

INSERT INTO projection_build (projection, version, fold_version, status, promoted_at)
    SELECT p, 1, 1, 'live', now() FROM unnest(ARRAY['connections', 'closes', 'clients', 'nodes', 'counters', 'source_gaps']) p;
INSERT INTO projection_checkpoint (shard, projection, version, status)
    SELECT s.shard, b.projection, b.version, b.status FROM projection_build b CROSS JOIN log_shard s;

-- Rights ------------------------------------------------------------------------------------------------------------

SELECT grant_if_role('SELECT, INSERT, UPDATE, DELETE', t, 'pulsetrail_projector'),
       grant_if_role('SELECT', t, 'pulsetrail_reader')
    FROM unnest(ARRAY['connections_v1', 'closes_v1', 'closes_open_v1', 'clients_v1', 'nodes_v1', 'counters_v1',
                      'counters_page_v1', 'source_gaps_connection_v1', 'source_gaps_lane_v1']) t;
SELECT grant_if_role('SELECT', v, r)
    FROM unnest(ARRAY['connections', 'closes', 'clients', 'nodes', 'counters', 'source_gaps']) v,
         unnest(ARRAY['pulsetrail_projector', 'pulsetrail_reader']) r;
SELECT grant_if_role('SELECT', t, r)
    FROM unnest(ARRAY['projection_build', 'projection_checkpoint']) t,
         unnest(ARRAY['pulsetrail_projector', 'pulsetrail_reader']) r;
SELECT grant_if_role('UPDATE', 'projection_build', 'pulsetrail_projector');
