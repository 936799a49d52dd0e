"""The log's tables, as the migrations make them; a test compares the two.

Rules: the columns of ``events`` go from 8-byte to variable width, so that no row has padding. Every primary key starts
with the shard, there are no foreign keys and no sequences, and partitioning has one level: the tables could become
distributed tables on ``shard`` as they are. Everything has a comment: ``\\d+`` is documentation for the person who
writes ad-hoc SQL.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, JSONB
from sqlalchemy.types import TypeEngine

metadata: Final = MetaData()

_TIME: Final = DateTime(timezone=True)
_NOW: Final = text("now()")
_Kind = TypeEngine[Any] | type[TypeEngine[Any]]


def _column(name: str, kind: _Kind, comment: str, **options: Any) -> Column[Any]:
    options.setdefault("nullable", False)
    return Column(name, kind, comment=comment, autoincrement=False, **options)


deployment = Table(
    "deployment",
    metadata,
    _column("singleton", Boolean, "Always true: there is one row.", server_default=text("true")),
    _column("created_at", _TIME, "When the first migration ran.", server_default=_NOW),
    _column("shards", SmallInteger, "Number of shards of the log; fixed for ever."),
    _column("client_key", LargeBinary, "Key of the hash that makes client_ref from a client id. Secret."),
    PrimaryKeyConstraint("singleton", name="deployment_pkey"),
    CheckConstraint("singleton", name="deployment_has_one_row"),
    comment="What the first migration fixed for ever: one row.",
)

log_shard = Table(
    "log_shard",
    metadata,
    _column("head_position", BigInteger, "Position of the shard's last event; 0 before the first."),
    _column("head_recorded_at", _TIME, "recorded_at of the shard's last event.", server_default=text("'epoch'")),
    _column(
        "truncated_before",
        BigInteger,
        "Retention has dropped every event with a smaller position.",
        server_default=text("1"),
    ),
    _column("shard", SmallInteger, "Shard of the log."),
    PrimaryKeyConstraint("shard", name="log_shard_pkey"),
    comment="Heads of the shards. Append takes the row's lock last, which makes positions gapless and commit order "
    "equal to position order.",
    # Room on the page for the next versions of the hottest row of all keeps its updates HOT.
    postgresql_with={"fillfactor": "10"},
)

events = Table(
    "events",
    metadata,
    _column("position", BigInteger, "Place in the shard: gapless, from 1, in the order of the commits."),
    _column("recorded_at", _TIME, "When the log took it, by the database's clock; never goes back within a shard."),
    _column("occurred_at", _TIME, "When it happened, by the clock of who says it."),
    _column("received_at", _TIME, "When Pulsetrail first had it, by the clock of the process that had it."),
    _column("node_epoch", BigInteger, "Incarnation of the node: its start in µs since 1970.", nullable=True),
    _column("event_id", Uuid, "Identity of the event, UUIDv7."),
    _column("connection_id", Uuid, "Connection that it is about, UUIDv7.", nullable=True),
    _column("client_ref", Uuid, "Pseudonym of the client; client_identity maps it back.", nullable=True),
    _column(
        "connection_seq",
        Integer,
        "The gateway's numbering of its own events of a connection, from 1 without holes.",
        nullable=True,
    ),
    _column("close_code", Integer, "WebSocket close code on the wire, on events that have one.", nullable=True),
    _column("shard", SmallInteger, "Shard of the log: a stable hash of client_ref, or of the node or address prefix."),
    _column("schema_version", SmallInteger, "Version of the event type's payload."),
    _column("event_type", Text, "noun.verb_in_past_tense, from the closed catalogue."),
    _column("source", Text, "Who says it: gateway, collector, reaper, client, browser or chaos."),
    _column("node_id", Text, "Gateway process that it is about; survives restarts.", nullable=True),
    _column("page_id", Text, "Page load of the client.", nullable=True),
    _column("reason", Text, "Why, from the closed list of reasons, on events that have one.", nullable=True),
    _column("payload", JSONB, "What is particular to the event type."),
    PrimaryKeyConstraint("shard", "position", "recorded_at", name="events_pkey"),
    Index("events_connection", "connection_id", postgresql_where=text("connection_id IS NOT NULL")),
    Index("events_client", "client_ref", "recorded_at", postgresql_where=text("client_ref IS NOT NULL")),
    comment="The log: every event, append-only, partitioned by day (UTC) of recorded_at.",
    postgresql_partition_by="RANGE (recorded_at)",
)

producer_lane = Table(
    "producer_lane",
    metadata,
    _column("last_seq", BigInteger, "Sequence of the last row that the log has; 0 before the first."),
    _column(
        "stored",
        BigInteger,
        "Rows of it that became events. All lanes of a shard add up to its head.",
        server_default=text("0"),
    ),
    _column(
        "skipped",
        BigInteger,
        "Rows of it that became none: they were there already, or are lost. With stored it adds up to last_seq.",
        server_default=text("0"),
    ),
    _column("updated_at", _TIME, "When it last moved.", server_default=_NOW),
    _column("producer_id", Uuid, "One start of one process with a journal."),
    _column("shard", SmallInteger, "Shard of the log."),
    PrimaryKeyConstraint("shard", "producer_id", name="producer_lane_pkey"),
    comment="What of each producer's journal is in the log: a batch that is sent again stores nothing.",
    postgresql_with={"fillfactor": "50"},
)

page_lane = Table(
    "page_lane",
    metadata,
    _column("received_at", _TIME, "When telemetry of the page last came.", server_default=_NOW),
    _column("shard", SmallInteger, "Shard of the log."),
    _column("page_id", Text, "Page load of a client."),
    _column("seen", INT8MULTIRANGE, "Sequences of the page's telemetry that are in the log."),
    _column(
        "forgotten_before",
        BigInteger,
        "Smaller sequences count as seen, whether they came or not: the page made too many holes. NULL: none do.",
        nullable=True,
    ),
    PrimaryKeyConstraint("shard", "page_id", name="page_lane_pkey"),
    comment="Which telemetry of a page is in the log: what a browser sends again stores nothing.",
    postgresql_with={"fillfactor": "50"},
)

node_lease = Table(
    "node_lease",
    metadata,
    _column("epoch", BigInteger, "Incarnation of the node."),
    _column("expires_at", _TIME, "Until when only the node itself may end its connections."),
    _column("fenced_at", _TIME, "When the reaper took its connections over.", nullable=True),
    _column("node_id", Text, "Gateway process."),
    PrimaryKeyConstraint("node_id", "epoch", name="node_lease_pkey"),
    comment="Who may end connections: the node while it renews its lease, the reaper once the epoch is fenced.",
    postgresql_with={"fillfactor": "50"},
)

node_fence = Table(
    "node_fence",
    metadata,
    _column("epoch", BigInteger, "Incarnation of the node that was fenced."),
    _column("head_position", BigInteger, "Head of the shard when the epoch was fenced."),
    _column(
        "reaped_through",
        BigInteger,
        "Position of the projection of connections through which the reaper has ended what was open.",
        server_default=text("0"),
    ),
    _column("shard", SmallInteger, "Shard of the log."),
    _column("node_id", Text, "Gateway process."),
    PrimaryKeyConstraint("shard", "node_id", "epoch", name="node_fence_pkey"),
    comment="How far the projection of connections must be before the reaper may end a fenced epoch's connections.",
)

client_identity = Table(
    "client_identity",
    metadata,
    _column("first_seen_at", _TIME, "When the log first heard of the client.", server_default=_NOW),
    _column("erased_at", _TIME, "When the identifiers were erased; they stay erased.", nullable=True),
    _column("client_ref", Uuid, "Pseudonym in the log."),
    _column("shard", SmallInteger, "Shard of the log."),
    _column("client_id", Text, "The client's own id; null once erased.", nullable=True),
    _column("subject", Text, "Who the client's token last said it is.", nullable=True),
    PrimaryKeyConstraint("shard", "client_ref", name="client_identity_pkey"),
    Index("client_identity_client_id", "client_id"),
    comment="The only place that holds identifiers of clients; mutable, so that they can be erased.",
)

projection_checkpoint = Table(
    "projection_checkpoint",
    metadata,
    _column("position", BigInteger, "Position of the last event folded; 0 before the first.", server_default=text("0")),
    _column("recorded_at", _TIME, "recorded_at of the last event folded.", server_default=text("'epoch'")),
    _column("version", Integer, "Build of the projection."),
    _column("shard", SmallInteger, "Shard of the log."),
    _column("projection", Text, "Name of the projection."),
    _column("status", Text, "building, live, paused, degraded or retired; retired ones do not hold retention back."),
    PrimaryKeyConstraint("shard", "projection", "version", name="projection_checkpoint_pkey"),
    comment="How far each projection has folded each shard.",
    postgresql_with={"fillfactor": "50"},
)

dead_letter = Table(
    "dead_letter",
    metadata,
    _column("received_at", _TIME, "When it was given up.", server_default=_NOW),
    _column("expires_at", _TIME, "When it may be deleted."),
    _column("letter_id", Uuid, "Identity: of an event its event_id."),
    _column("shard", SmallInteger, "Shard of the log; 0 for what never had one."),
    _column("stage", Text, "Who gave it up: collector, append, or a projection by name."),
    _column("reason", Text, "What was wrong with it."),
    _column("raw", LargeBinary, "It, as it came, for replay."),
    PrimaryKeyConstraint("shard", "letter_id", "stage", name="dead_letter_pkey"),
    comment="Whatever could not be validated, stored or folded, for replay.",
)

update_stream = Table(
    "update_stream",
    metadata,
    _column("head_position", BigInteger, "stream_position of the newest update; 0 before the first."),
    _column("started_at", _TIME, "When the epoch began.", server_default=_NOW),
    _column("singleton", Boolean, "Always true: there is one row.", server_default=text("true")),
    _column("stream_epoch", Text, "Epoch of the stream of updates; a new one voids every position."),
    PrimaryKeyConstraint("singleton", name="update_stream_pkey"),
    CheckConstraint("singleton", name="update_stream_has_one_row"),
    comment="Head of the stream of updates that several workers share: one row.",
    postgresql_with={"fillfactor": "10"},
)

updates = Table(
    "updates",
    metadata,
    _column("stream_position", BigInteger, "Place in the stream: gapless within an epoch, from 1."),
    _column("published_at", _TIME, "When it was published.", server_default=_NOW),
    _column("stream_epoch", Text, "Epoch of the stream."),
    _column("topic", Text, "Topic that the publisher gave."),
    _column("data", Text, "The JSON that the publisher gave, as it came."),
    PrimaryKeyConstraint("stream_epoch", "stream_position", name="updates_pkey"),
    comment="The newest updates, broadcast to connected clients; bounded, and no part of the log.",
)

process = Table(
    "process",
    metadata,
    _column("seen_at", _TIME, "When the process last said that it is there.", server_default=_NOW),
    _column("process_id", Text, "Name of the process."),
    _column("role", Text, "gateway, collector or projector."),
    _column("address", Text, "host:port of its metrics."),
    PrimaryKeyConstraint("process_id", name="process_pkey"),
    comment="Running processes, for /metrics/targets.",
)
