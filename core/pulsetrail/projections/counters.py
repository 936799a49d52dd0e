"""Monotonic totals behind the Prometheus counters: they survive restarts and deploys, and no rebuild lowers them.

A histogram is one row a bucket, not cumulative, under its own name, and its sum under the name with the unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, MetaData, SmallInteger, Table, Text, Uuid

from pulsetrail.projections.projection import Projection, shard_column, table_name
from pulsetrail.statements import load_statements

DURATION_BOUNDS_MS: Final = (
    1_000,
    5_000,
    15_000,
    30_000,
    60_000,
    100_000,
    120_000,
    300_000,
    600_000,
    1_800_000,
    3_600_000,
    7_200_000,
    28_800_000,
    86_400_000,
)
"""Upper bounds of the ages at the end; among them those at which intermediaries cut (60 s, 100 s, 5 min, 1 h, 2 h)."""

DOWNTIME_BOUNDS_MS: Final = (
    100,
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    30_000,
    60_000,
    300_000,
    1_800_000,
    7_200_000,
)
"""Upper bounds of the gaps: the banner comes at 5 s, one backoff is at most 60 s, beyond that people were away."""


def define(metadata: MetaData, build: int) -> tuple[Table, ...]:
    """The tables of one build."""
    counters = Table(
        table_name("counters", build),
        metadata,
        shard_column(),
        Column("metric", Text, primary_key=True, comment="What is counted, such as disconnections."),
        Column("label", Text, primary_key=True, comment="Reason, cause or event type; empty: none."),
        Column("initiator", Text, primary_key=True, comment="Initiator of disconnections; empty: none."),
        Column(
            "bucket",
            SmallInteger,
            primary_key=True,
            autoincrement=False,
            comment="Bucket of a histogram, from 0; -1: not a histogram.",
        ),
        Column("value", BigInteger, nullable=False, comment="The total; it never falls."),
        comment=f"Projection counters, build {build}; query the view counters.",
        postgresql_with={"fillfactor": "20"},
    )
    page = Table(
        table_name("counters_page", build),
        metadata,
        shard_column(),
        Column("client_ref", Uuid, primary_key=True, comment="Pseudonym of the client."),
        Column("page_id", Text, primary_key=True, comment="Page load; empty: a client that names none."),
        Column("ended_at", DateTime(timezone=True), comment="When its last connection ended; NULL: it is open."),
        Column("last_recorded_at", DateTime(timezone=True), nullable=False, comment="When the log took its last turn."),
        Column("reason", Text, comment="Why that one ended."),
        comment=f"Projection counters, build {build}: where each page stands, for reconnects and downtime.",
        postgresql_with={"fillfactor": "80"},
    )
    return (counters, page)


def _array(bounds: Sequence[int]) -> str:
    return f"ARRAY[{', '.join(map(str, bounds))}]::bigint[]"


PROJECTION = Projection(
    name="counters",
    version=1,
    stems=("counters", "counters_page"),
    define=define,
    statements=load_statements("pulsetrail.projections", "counters.sql"),
    constants={"duration_bounds": _array(DURATION_BOUNDS_MS), "downtime_bounds": _array(DOWNTIME_BOUNDS_MS)},
)
