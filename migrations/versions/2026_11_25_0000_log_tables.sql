CREATE TABLE deployment (
    singleton BOOLEAN DEFAULT true NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    shards SMALLINT NOT NULL,
    client_key BYTEA NOT NULL,
    CONSTRAINT deployment_pkey PRIMARY KEY (singleton),
    CONSTRAINT deployment_has_one_row CHECK (singleton)
);
COMMENT ON TABLE deployment IS 'What the first migration fixed for ever: one row.';
COMMENT ON COLUMN deployment.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN deployment.created_at IS 'When the first migration ran.';
COMMENT ON COLUMN deployment.shards IS 'Number of shards of the log; fixed for ever.';
COMMENT ON COLUMN deployment.client_key IS 'Key of the hash that makes client_ref from a client id. Secret.';

CREATE TABLE log_shard (
    head_position BIGINT NOT NULL,
    head_recorded_at TIMESTAMP WITH TIME ZONE DEFAULT 'epoch' NOT NULL,
    truncated_before BIGINT DEFAULT 1 NOT NULL,
    shard SMALLINT NOT NULL,
    CONSTRAINT log_shard_pkey PRIMARY KEY (shard)
)
WITH (fillfactor = 10);
COMMENT ON TABLE log_shard IS
    'Heads of the shards. Append takes the row''s lock last, which makes positions gapless and commit '
    'order equal to position order.';
COMMENT ON COLUMN log_shard.head_position IS 'Position of the shard''s last event; 0 before the first.';
COMMENT ON COLUMN log_shard.head_recorded_at IS 'recorded_at of the shard''s last event.';
COMMENT ON COLUMN log_shard.truncated_before IS 'Retention has dropped every event with a smaller position.';
COMMENT ON COLUMN log_shard.shard IS 'Shard of the log.';

CREATE TABLE events (
    position BIGINT NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE NOT NULL,
    occurred_at TIMESTAMP WITH TIME ZONE NOT NULL,
    received_at TIMESTAMP WITH TIME ZONE NOT NULL,
    node_epoch BIGINT,
    event_id UUID NOT NULL,
    connection_id UUID,
    client_ref UUID,
    connection_seq INTEGER,
    close_code INTEGER,
    shard SMALLINT NOT NULL,
    schema_version SMALLINT NOT NULL,
    event_type TEXT NOT NULL,
    source TEXT NOT NULL,
    node_id TEXT,
    page_id TEXT,
    reason TEXT,
    payload JSONB NOT NULL,
    CONSTRAINT events_pkey PRIMARY KEY (shard, position, recorded_at)
)
PARTITION BY RANGE (recorded_at);
CREATE INDEX events_connection ON events (connection_id) WHERE connection_id IS NOT NULL;
CREATE INDEX events_client ON events (client_ref, recorded_at) WHERE client_ref IS NOT NULL;
COMMENT ON TABLE events IS 'The log: every event, append-only, partitioned by day (UTC) of recorded_at.';
COMMENT ON COLUMN events.position IS 'Place in the shard: gapless, from 1, in the order of the commits.';
COMMENT ON COLUMN events.recorded_at IS
    'When the log took it, by the database''s clock; never goes back within a shard.';
COMMENT ON COLUMN events.occurred_at IS 'When it happened, by the clock of who says it.';
COMMENT ON COLUMN events.received_at IS 'When Pulsetrail first had it, by the clock of the process that had it.';
COMMENT ON COLUMN events.node_epoch IS 'Incarnation of the node: its start in µs since 1970.';
COMMENT ON COLUMN events.event_id IS 'Identity of the event, UUIDv7.';
COMMENT ON COLUMN events.connection_id IS 'Connection that it is about, UUIDv7.';
COMMENT ON COLUMN events.client_ref IS 'Pseudonym of the client; client_identity maps it back.';
COMMENT ON COLUMN events.connection_seq IS
    'The gateway''s numbering of its own events of a connection, from 1 without holes.';
COMMENT ON COLUMN events.close_code IS 'WebSocket close code on the wire, on events that have one.';
COMMENT ON COLUMN events.shard IS 'Shard of the log: a stable hash of client_ref, or of the node or address prefix.';
COMMENT ON COLUMN events.schema_version IS 'Version of the event type''s payload.';
COMMENT ON COLUMN events.event_type IS 'noun.verb_in_past_tense, from the closed catalogue.';
COMMENT ON COLUMN events.source IS 'Who says it: gateway, collector, reaper, client, browser or chaos.';
COMMENT ON COLUMN events.node_id IS 'Gateway process that it is about; survives restarts.';
COMMENT ON COLUMN events.page_id IS 'Page load of the client.';
COMMENT ON COLUMN events.reason IS 'Why, from the closed list of reasons, on events that have one.';
COMMENT ON COLUMN events.payload IS 'What is particular to the event type.';

CREATE TABLE producer_lane (
    last_seq BIGINT NOT NULL,
    stored BIGINT DEFAULT 0 NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    producer_id UUID NOT NULL,
    shard SMALLINT NOT NULL,
    CONSTRAINT producer_lane_pkey PRIMARY KEY (shard, producer_id)
)
WITH (fillfactor = 50);
COMMENT ON TABLE producer_lane IS
    'What of each producer''s journal is in the log: a batch that is sent again stores nothing.';
COMMENT ON COLUMN producer_lane.last_seq IS 'Sequence of the last row that the log has; 0 before the first.';
COMMENT ON COLUMN producer_lane.stored IS
    'Rows of it that became events; the others were there already or are lost. All lanes of a shard add up to its head.';
COMMENT ON COLUMN producer_lane.updated_at IS 'When it last moved.';
COMMENT ON COLUMN producer_lane.producer_id IS 'One start of one process with a journal.';
COMMENT ON COLUMN producer_lane.shard IS 'Shard of the log.';

CREATE TABLE page_lane (
    received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    shard SMALLINT NOT NULL,
    page_id TEXT NOT NULL,
    seen INT8MULTIRANGE NOT NULL,
    CONSTRAINT page_lane_pkey PRIMARY KEY (shard, page_id)
)
WITH (fillfactor = 50);
COMMENT ON TABLE page_lane IS 'Which telemetry of a page is in the log: what a browser sends again stores nothing.';
COMMENT ON COLUMN page_lane.received_at IS 'When telemetry of the page last came.';
COMMENT ON COLUMN page_lane.shard IS 'Shard of the log.';
COMMENT ON COLUMN page_lane.page_id IS 'Page load of a client.';
COMMENT ON COLUMN page_lane.seen IS 'Sequences of the page''s telemetry that are in the log.';

CREATE TABLE node_lease (
    epoch BIGINT NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    fenced_at TIMESTAMP WITH TIME ZONE,
    node_id TEXT NOT NULL,
    CONSTRAINT node_lease_pkey PRIMARY KEY (node_id, epoch)
)
WITH (fillfactor = 50);
COMMENT ON TABLE node_lease IS
    'Who may end connections: the node while it renews its lease, the reaper once the epoch is fenced.';
COMMENT ON COLUMN node_lease.epoch IS 'Incarnation of the node.';
COMMENT ON COLUMN node_lease.expires_at IS 'Until when only the node itself may end its connections.';
COMMENT ON COLUMN node_lease.fenced_at IS 'When the reaper took its connections over.';
COMMENT ON COLUMN node_lease.node_id IS 'Gateway process.';

CREATE TABLE node_fence (
    epoch BIGINT NOT NULL,
    head_position BIGINT NOT NULL,
    reaped_through BIGINT DEFAULT 0 NOT NULL,
    shard SMALLINT NOT NULL,
    node_id TEXT NOT NULL,
    CONSTRAINT node_fence_pkey PRIMARY KEY (shard, node_id, epoch)
);
COMMENT ON TABLE node_fence IS
    'How far the projection of connections must be before the reaper may end a fenced epoch''s '
    'connections.';
COMMENT ON COLUMN node_fence.epoch IS 'Incarnation of the node that was fenced.';
COMMENT ON COLUMN node_fence.head_position IS 'Head of the shard when the epoch was fenced.';
COMMENT ON COLUMN node_fence.reaped_through IS
    'Position of the projection of connections through which the reaper has ended what was open.';
COMMENT ON COLUMN node_fence.shard IS 'Shard of the log.';
COMMENT ON COLUMN node_fence.node_id IS 'Gateway process.';

CREATE TABLE client_identity (
    first_seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    erased_at TIMESTAMP WITH TIME ZONE,
    client_ref UUID NOT NULL,
    shard SMALLINT NOT NULL,
    client_id TEXT,
    subject TEXT,
    CONSTRAINT client_identity_pkey PRIMARY KEY (shard, client_ref)
);
CREATE INDEX client_identity_client_id ON client_identity (client_id);
COMMENT ON TABLE client_identity IS
    'The only place that holds identifiers of clients; mutable, so that they can be erased.';
COMMENT ON COLUMN client_identity.first_seen_at IS 'When the log first heard of the client.';
COMMENT ON COLUMN client_identity.erased_at IS 'When the identifiers were erased; they stay erased.';
COMMENT ON COLUMN client_identity.client_ref IS 'Pseudonym in the log.';
COMMENT ON COLUMN client_identity.shard IS 'Shard of the log.';
COMMENT ON COLUMN client_identity.client_id IS 'The client''s own id; null once erased.';
COMMENT ON COLUMN client_identity.subject IS 'Who the client''s token last said it is.';

CREATE TABLE projection_checkpoint (
    position BIGINT DEFAULT 0 NOT NULL,
    recorded_at TIMESTAMP WITH TIME ZONE DEFAULT 'epoch' NOT NULL,
    version INTEGER NOT NULL,
    shard SMALLINT NOT NULL,
    projection TEXT NOT NULL,
    status TEXT NOT NULL,
    CONSTRAINT projection_checkpoint_pkey PRIMARY KEY (shard, projection, version)
)
WITH (fillfactor = 50);
COMMENT ON TABLE projection_checkpoint IS 'How far each projection has folded each shard.';
COMMENT ON COLUMN projection_checkpoint.position IS 'Position of the last event folded; 0 before the first.';
COMMENT ON COLUMN projection_checkpoint.recorded_at IS 'recorded_at of the last event folded.';
COMMENT ON COLUMN projection_checkpoint.version IS 'Build of the projection.';
COMMENT ON COLUMN projection_checkpoint.shard IS 'Shard of the log.';
COMMENT ON COLUMN projection_checkpoint.projection IS 'Name of the projection.';
COMMENT ON COLUMN projection_checkpoint.status IS
    'building, live, paused, degraded or retired; retired ones do not hold retention back.';

CREATE TABLE dead_letter (
    received_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL,
    letter_id UUID NOT NULL,
    shard SMALLINT NOT NULL,
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    raw BYTEA NOT NULL,
    CONSTRAINT dead_letter_pkey PRIMARY KEY (shard, letter_id, stage)
);
COMMENT ON TABLE dead_letter IS 'Whatever could not be validated, stored or folded, for replay.';
COMMENT ON COLUMN dead_letter.received_at IS 'When it was given up.';
COMMENT ON COLUMN dead_letter.expires_at IS 'When it may be deleted.';
COMMENT ON COLUMN dead_letter.letter_id IS 'Identity: of an event its event_id.';
COMMENT ON COLUMN dead_letter.shard IS 'Shard of the log; 0 for what never had one.';
COMMENT ON COLUMN dead_letter.stage IS 'Who gave it up: collector, append, or a projection by name.';
COMMENT ON COLUMN dead_letter.reason IS 'What was wrong with it.';
COMMENT ON COLUMN dead_letter.raw IS 'It, as it came, for replay.';

CREATE TABLE update_stream (
    head_position BIGINT NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    singleton BOOLEAN DEFAULT true NOT NULL,
    stream_epoch TEXT NOT NULL,
    CONSTRAINT update_stream_pkey PRIMARY KEY (singleton),
    CONSTRAINT update_stream_has_one_row CHECK (singleton)
)
WITH (fillfactor = 10);
COMMENT ON TABLE update_stream IS 'Head of the stream of updates that several workers share: one row.';
COMMENT ON COLUMN update_stream.head_position IS 'stream_position of the newest update; 0 before the first.';
COMMENT ON COLUMN update_stream.started_at IS 'When the epoch began.';
COMMENT ON COLUMN update_stream.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN update_stream.stream_epoch IS 'Epoch of the stream of updates; a new one voids every position.';

CREATE TABLE updates (
    stream_position BIGINT NOT NULL,
    published_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    stream_epoch TEXT NOT NULL,
    topic TEXT NOT NULL,
    data TEXT NOT NULL,
    CONSTRAINT updates_pkey PRIMARY KEY (stream_epoch, stream_position)
);
COMMENT ON TABLE updates IS 'The newest updates, broadcast to connected clients; bounded, and no part of the log.';
COMMENT ON COLUMN updates.stream_position IS 'Place in the stream: gapless within an epoch, from 1.';
COMMENT ON COLUMN updates.published_at IS 'When it was published.';
COMMENT ON COLUMN updates.stream_epoch IS 'Epoch of the stream.';
COMMENT ON COLUMN updates.topic IS 'Topic that the publisher gave.';
COMMENT ON COLUMN updates.data IS 'The JSON that the publisher gave, as it came.';

CREATE TABLE process (
    seen_at TIMESTAMP WITH TIME ZONE DEFAULT now() NOT NULL,
    process_id TEXT NOT NULL,
    role TEXT NOT NULL,
    address TEXT NOT NULL,
    CONSTRAINT process_pkey PRIMARY KEY (process_id)
);
COMMENT ON TABLE process IS 'Running processes, for /metrics/targets.';
COMMENT ON COLUMN process.seen_at IS 'When the process last said that it is there.';
COMMENT ON COLUMN process.process_id IS 'Name of the process.';
COMMENT ON COLUMN process.role IS 'gateway, collector or projector.';
COMMENT ON COLUMN process.address IS 'host:port of its metrics.';
