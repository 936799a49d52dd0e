"""Holes in what the sources numbered: nothing for ever, or an alert.

A gateway numbers its own events of a connection from 1 without holes, so as many have to be there as the greatest
number says; a connection whose gateway has ended it with nothing missing is forgotten. Holes in a lane are reported by
the shipper that met them (``events.dropped`` with the cause ``hole``).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Index, Integer, MetaData, Table, Text, Uuid, text

from pulsetrail.projections.projection import Projection, shard_column, table_name
from pulsetrail.statements import load_statements


def define(metadata: MetaData, build: int) -> tuple[Table, ...]:
    """The tables of one build."""
    time = DateTime(timezone=True)
    name = table_name("source_gaps_connection", build)
    connection = Table(
        name,
        metadata,
        shard_column(),
        Column("connection_id", Uuid, primary_key=True, comment="A connection that is open or incomplete."),
        Column("last_recorded_at", time, nullable=False, comment="When the log took its newest numbered event."),
        Column("events", Integer, nullable=False, comment="Numbered events in the log."),
        Column("last_seq", Integer, nullable=False, comment="Greatest number; more than events: some are missing."),
        Column("ended", Boolean, nullable=False, comment="Its gateway has written its end."),
        comment=f"Projection source_gaps, build {build}: the numbering of connections; query the view source_gaps.",
        postgresql_with={"fillfactor": "80"},
    )
    Index(f"ix_{name}_gap", connection.c.shard, postgresql_where=text("last_seq <> events"))
    lane = Table(
        table_name("source_gaps_lane", build),
        metadata,
        shard_column(),
        Column("node_id", Text, primary_key=True, comment="Node whose lane has holes."),
        Column("missing", BigInteger, nullable=False, comment="Events that its shipper could not find any more."),
        Column("last_recorded_at", time, nullable=False, comment="When the log was told last."),
        comment=f"Projection source_gaps, build {build}: holes in lanes; query the view source_gaps.",
    )
    return (connection, lane)


PROJECTION = Projection(
    name="source_gaps",
    version=1,
    stems=("source_gaps_connection", "source_gaps_lane"),
    define=define,
    statements=load_statements("pulsetrail.projections", "source_gaps.sql"),
)
