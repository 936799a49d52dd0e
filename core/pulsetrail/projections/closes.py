"""Disconnects per minute, by reason, initiator, node, release and browser family.

A terminal event does not say which release or browser it ended; what ``connection.opened`` said is kept in a second
table for as long as the connection is open.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text, Uuid

from pulsetrail.projections.projection import Projection, shard_column, table_name
from pulsetrail.statements import load_statements


def define(metadata: MetaData, build: int) -> tuple[Table, ...]:
    """The tables of one build."""
    closes = Table(
        table_name("closes", build),
        metadata,
        shard_column(),
        Column("minute", DateTime(timezone=True), primary_key=True, comment="Minute in which they ended (UTC)."),
        Column("reason", Text, primary_key=True, comment="Why they ended."),
        Column("initiator", Text, primary_key=True, comment="Whose doing it was."),
        Column("node_id", Text, primary_key=True, comment="Node that held them."),
        Column("release", Text, primary_key=True, comment="Release of the application; empty: not told."),
        Column("browser", Text, primary_key=True, comment="Browser family."),
        Column("closes", BigInteger, nullable=False, comment="Connections that ended."),
        comment=f"Projection closes, build {build}; query the view closes.",
        postgresql_with={"fillfactor": "80"},
    )
    still_open = Table(
        table_name("closes_open", build),
        metadata,
        shard_column(),
        Column("connection_id", Uuid, primary_key=True, comment="An open connection."),
        Column("release", Text, nullable=False, comment="Release of its application."),
        Column("browser", Text, nullable=False, comment="Its browser family."),
        comment=f"Projection closes, build {build}: what is needed when an open connection ends.",
    )
    return (closes, still_open)


PROJECTION = Projection(
    name="closes",
    version=1,
    stems=("closes", "closes_open"),
    define=define,
    statements=load_statements("pulsetrail.projections", "closes.sql"),
)
