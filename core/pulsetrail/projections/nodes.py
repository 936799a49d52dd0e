"""One row per node, epoch and shard; the view adds the shards up."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, MetaData, Table, Text

from pulsetrail.projections.projection import Projection, shard_column, table_name
from pulsetrail.statements import load_statements


def define(metadata: MetaData, build: int) -> tuple[Table, ...]:
    """The tables of one build."""
    time = DateTime(timezone=True)
    return (
        Table(
            table_name("nodes", build),
            metadata,
            shard_column(),
            Column("node_id", Text, primary_key=True, comment="Name of the node."),
            Column(
                "node_epoch",
                BigInteger,
                primary_key=True,
                autoincrement=False,
                comment="Its incarnation, microseconds.",
            ),
            Column("started_at", time, comment="When it started; only in the node's own shard."),
            Column("stopped_at", time, comment="When it stopped in order; NULL: it runs, or it was lost."),
            Column("last_event_at", time, nullable=False, comment="Newest event it is named in."),
            Column("last_recorded_at", time, nullable=False, comment="When the log took the newest event folded here."),
            Column("connections_opened", BigInteger, nullable=False, comment="Connections it has opened."),
            Column("connections_ended", BigInteger, nullable=False, comment="Those that have ended."),
            Column("heartbeats_missed", BigInteger, nullable=False, comment="Heartbeats its clients missed."),
            Column("version", Text, comment="Version of Pulsetrail it runs."),
            comment=f"Projection nodes, build {build}; query the view nodes.",
            postgresql_with={"fillfactor": "50"},
        ),
    )


PROJECTION = Projection(
    name="nodes",
    version=1,
    stems=("nodes",),
    define=define,
    statements=load_statements("pulsetrail.projections", "nodes.sql"),
)
