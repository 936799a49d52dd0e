"""What the projections say at one moment, in the shape that the metrics export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pulsetrail.events import LATENCY_BOUNDS_US
from pulsetrail.projections.counters import DOWNTIME_BOUNDS_MS, DURATION_BOUNDS_MS
from pulsetrail.projections.folding import Connection
from pulsetrail.statements import load_statements

_SQL: Final = load_statements("pulsetrail.projections", "figures.sql")


@dataclass(frozen=True, slots=True)
class HistogramFigures:
    """A histogram as a projection counts it; the bounds are the projection's, since they were fixed when it folded."""

    bounds: Sequence[float]
    """Upper bounds in seconds, ascending."""
    counts: Sequence[int]
    """Observations of each bucket, not cumulative, and, last, those above the highest bound."""
    sum: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainFigures:
    """What the projections say at one moment. Totals never fall: they come from the counters projection."""

    connections_opened: int = 0
    heartbeats_missed: int = 0
    source_gaps: int = 0
    stale_clients: int = 0
    flapping_clients: int | None = None
    """``None`` while no penalty is folded: no figure is better than a wrong 0."""
    disconnections: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """By (reason, initiator)."""
    events: Mapping[str, int] = field(default_factory=dict)
    """Events that are folded, by type."""
    handshakes_rejected: Mapping[str, int] = field(default_factory=dict)
    reconnects: Mapping[str, int] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    clients: Mapping[str, int] = field(default_factory=dict)
    """Open connections by node id."""
    duration: HistogramFigures | None = None
    heartbeat_rtt: HistogramFigures | None = None
    downtime: HistogramFigures | None = None


_Totals = Mapping[tuple[str, str, str, int], int]


def _histogram(totals: _Totals, metric: str, unit: str, bounds: Sequence[int], per_second: int) -> HistogramFigures:
    return HistogramFigures(
        [bound / per_second for bound in bounds],
        [totals.get((metric, "", "", bucket), 0) for bucket in range(len(bounds) + 1)],
        totals.get((f"{metric}_{unit}", "", "", -1), 0) / per_second,
    )


def _by_label(totals: _Totals, metric: str) -> dict[str, int]:
    return {label: value for (name, label, _, _), value in totals.items() if name == metric}


async def figures(connection: Connection) -> DomainFigures:
    """Read the figures: a few hundred rows of counters, one row a node, and two partial indexes."""
    totals = {
        (row["metric"], row["label"], row["initiator"], row["bucket"]): row["value"]
        for row in await connection.fetch(_SQL["counters"])
    }
    gauges = await connection.fetchrow(_SQL["gauges"])
    nodes = await connection.fetch(_SQL["nodes"])
    return DomainFigures(
        connections_opened=totals.get(("connections_opened", "", "", -1), 0),
        heartbeats_missed=totals.get(("heartbeats_missed", "", "", -1), 0),
        source_gaps=gauges["gaps"],
        stale_clients=gauges["stale"],
        disconnections={
            (label, initiator): value
            for (metric, label, initiator, _), value in totals.items()
            if metric == "disconnections"
        },
        events=_by_label(totals, "events"),
        handshakes_rejected=_by_label(totals, "handshakes_rejected"),
        reconnects=_by_label(totals, "reconnects"),
        clients={row["node_id"]: row["open_connections"] for row in nodes},
        duration=_histogram(totals, "duration", "ms", DURATION_BOUNDS_MS, 1_000),
        heartbeat_rtt=_histogram(totals, "heartbeat_rtt", "us", LATENCY_BOUNDS_US, 1_000_000),
        downtime=_histogram(totals, "downtime", "ms", DOWNTIME_BOUNDS_MS, 1_000),
    )
