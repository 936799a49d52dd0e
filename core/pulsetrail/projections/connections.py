"""One row per connection: both accounts of its life, beside each other.

Every column is merged by a rule that does not care in which order the events come: the first by position where there
can be only one, the greatest sequence where the last counts, sums and extremes otherwise. What compares two
connections (the previous one, the gap) is computed when it is read.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, MetaData, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from pulsetrail.projections.projection import Projection, shard_column, table_name
from pulsetrail.statements import load_statements


def define(metadata: MetaData, build: int) -> tuple[Table, ...]:
    """The tables of one build."""
    name = table_name("connections", build)
    time = DateTime(timezone=True)
    table = Table(
        name,
        metadata,
        shard_column(),
        Column("connection_id", Uuid, primary_key=True, comment="Minted by the gateway (UUIDv7)."),
        Column("opened_at", time, comment="When the gateway opened it; NULL: only a client speaks of it."),
        Column("ended_at", time, comment="When its terminal event happened; NULL: open."),
        Column("opened_position", BigInteger, comment="Place of connection.opened in the shard."),
        Column("ended_position", BigInteger, comment="Place of the terminal event in the shard."),
        Column("node_epoch", BigInteger, comment="Incarnation of the node, microseconds."),
        Column("duration_ms", BigInteger, comment="Age at the end, as the gateway measured it."),
        Column("latency_sum_us", BigInteger, comment="Sum of the heartbeat round trips."),
        Column("latency_count", BigInteger, comment="Heartbeat round trips measured."),
        Column("latency_min_us", BigInteger, comment="Shortest heartbeat round trip."),
        Column("latency_max_us", BigInteger, comment="Longest heartbeat round trip."),
        Column("clock_min_us", BigInteger, comment="Round trip at which clock_offset_ms was measured."),
        Column("clock_offset_ms", BigInteger, comment="Server minus client, at the shortest round trip."),
        Column("stale_at", time, comment="When it was first found stale."),
        Column("late_reported_at", time, comment="When a fenced node says that it ended."),
        Column("client_opened_at", time, comment="Client's account: when its socket opened."),
        Column("client_closed_at", time, comment="Client's account: when its socket closed."),
        Column("client_backoff_ms", BigInteger, comment="Client's account: sum of the delays it planned."),
        Column("hint_backoff_ms", BigInteger, comment="Handshake hint: the backoff it waited before this connection."),
        Column("hint_downtime_ms", BigInteger, comment="Handshake hint: how long the client was without a connection."),
        Column("last_recorded_at", time, nullable=False, comment="When the log took the newest event folded here."),
        Column("client_opened_seq", BigInteger, comment="Sequence of the account in client_opened_at."),
        Column("client_closed_seq", BigInteger, comment="Sequence of the account in client_closed_at."),
        Column("stale_seq", Integer, comment="connection_seq of the last connection.stale."),
        Column("recovered_seq", Integer, comment="connection_seq of the last heartbeat.recovered."),
        Column("missed_seq", Integer, comment="connection_seq of the last heartbeat.missed."),
        Column("heartbeats_missed", Integer, nullable=False, comment="Heartbeats it did not answer in time."),
        Column("terminal_events", Integer, nullable=False, comment="Terminal events: 0 while open, else 1."),
        Column("wire_code", Integer, comment="Close code that was on the wire."),
        Column("client_code", Integer, comment="Close code that the client sent."),
        Column("late_wire_code", Integer, comment="Close code in the late report."),
        Column("client_closed_code", Integer, comment="Client's account: close code that it saw."),
        Column("client_backoffs", Integer, nullable=False, comment="Client's account: waits it scheduled."),
        Column("client_attempt", Integer, comment="Client's account: highest attempt it counted."),
        Column("hint_code", Integer, comment="Handshake hint: close code of the previous connection."),
        Column("hint_attempt", Integer, comment="Handshake hint: attempts it took."),
        Column("classifier_version", Integer, comment="Version of the classifier that gave the reason."),
        Column("behind_proxy", Boolean, comment="It came through a trusted proxy."),
        Column("tls", Boolean, comment="The gateway itself terminated TLS."),
        Column("resumed", Boolean, comment="The client got every update it had missed."),
        Column("was_clean", Boolean, comment="Both close frames were exchanged."),
        Column("client_closed_clean", Boolean, comment="Client's account: wasClean."),
        Column("hint_clean", Boolean, comment="Handshake hint: the previous end was clean."),
        Column("client_ref", Uuid, comment="Pseudonym of the client; client_identity maps it back."),
        Column("hint_connection_id", Uuid, comment="Handshake hint: the previous connection."),
        Column("page_id", Text, comment="Page load of the client."),
        Column("node_id", Text, comment="Node that held it."),
        Column("address_prefix", Text, comment="Network of the client (/24 or /48)."),
        Column("origin", Text, comment="Origin of the page."),
        Column("app", Text, comment="Application, as the client says."),
        Column("release", Text, comment="Release of the application."),
        Column("browser", Text, comment="Browser family."),
        Column("os", Text, comment="Operating system."),
        Column("device", Text, comment="Kind of device."),
        Column("auth", Text, comment="How the client proved who it is."),
        Column("ended_by", Text, comment="Terminal event: connection.closed or connection.lost."),
        Column("ended_source", Text, comment="Who wrote the terminal event."),
        Column("reason", Text, comment="Why it ended, from the closed list."),
        Column("initiator", Text, comment="Whose doing the end was."),
        Column("phase", Text, comment="How far it had come."),
        Column("detail", Text, comment="What the close frame or the error said, capped."),
        Column("late_reported_as", Text, comment="Terminal event that the fenced node wrote."),
        Column("late_reason", Text, comment="Reason in the late report."),
        Column("late_initiator", Text, comment="Initiator in the late report."),
        Column("client_closed_cause", Text, comment="Client's account: why it closed."),
        Column("hint_cause", Text, comment="Handshake hint: why the previous one ended, says the client."),
        Column("layers", JSONB(none_as_null=True), comment="Layers that answered at the last missed heartbeat."),
        Column("evidence", JSONB(none_as_null=True), comment="What the gateway knew at the end."),
        Column("late_evidence", JSONB(none_as_null=True), comment="Evidence in the late report."),
        comment=f"Projection connections, build {build}; query the view connections.",
        postgresql_with={"fillfactor": "80"},
    )
    Index(f"ix_{name}_client", table.c.shard, table.c.client_ref, table.c.opened_at)
    Index(f"ix_{name}_opened", table.c.opened_at)
    Index(f"ix_{name}_ended", table.c.ended_at)
    Index(
        f"ix_{name}_open",
        table.c.shard,
        table.c.node_id,
        table.c.node_epoch,
        postgresql_where=text("ended_at IS NULL AND opened_at IS NOT NULL"),
    )
    Index(
        f"ix_{name}_stale",
        table.c.shard,
        postgresql_where=text("ended_at IS NULL AND stale_seq IS NOT NULL AND stale_seq > COALESCE(recovered_seq, 0)"),
    )
    return (table,)


PROJECTION = Projection(
    name="connections",
    version=1,
    stems=("connections",),
    define=define,
    statements=load_statements("pulsetrail.projections", "connections.sql"),
)
