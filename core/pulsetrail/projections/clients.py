"""One row per client: what it has open, its totals, when it was last heard of."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Index, MetaData, Table, Text, Uuid

from pulsetrail.projections.projection import Projection, shard_column, table_name
from pulsetrail.statements import load_statements


def define(metadata: MetaData, build: int) -> tuple[Table, ...]:
    """The tables of one build."""
    name = table_name("clients", build)
    time = DateTime(timezone=True)
    table = Table(
        name,
        metadata,
        shard_column(),
        Column("client_ref", Uuid, primary_key=True, comment="Pseudonym of the client; client_identity maps it back."),
        Column("first_seen_at", time, nullable=False, comment="First arrival of an event about it."),
        Column("last_seen_at", time, nullable=False, comment="Newest arrival of an event about it."),
        Column("connections_opened", BigInteger, nullable=False, comment="Connections it has opened."),
        Column("connections_ended", BigInteger, nullable=False, comment="Connections of it that have ended."),
        Column("heartbeats_missed", BigInteger, nullable=False, comment="Heartbeats it did not answer in time."),
        Column("handshakes_rejected", BigInteger, nullable=False, comment="Handshakes that it was refused."),
        Column("account_events", BigInteger, nullable=False, comment="Events of its own account."),
        Column("last_recorded_at", time, nullable=False, comment="When the log took the newest event folded here."),
        Column("last_ended_position", BigInteger, comment="Place of its last terminal event in the shard."),
        Column("last_ended_at", time, comment="When its last connection to end did so."),
        Column("last_reason", Text, comment="Why that one ended."),
        comment=f"Projection clients, build {build}; query the view clients.",
        postgresql_with={"fillfactor": "80"},
    )
    Index(f"ix_{name}_last_seen", table.c.last_seen_at)
    return (table,)


PROJECTION = Projection(
    name="clients",
    version=1,
    stems=("clients",),
    define=define,
    statements=load_statements("pulsetrail.projections", "clients.sql"),
)
