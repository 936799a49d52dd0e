"""The domain's figures, folded from the log, in the form in which Prometheus takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pulsetrail.metrics import (
    CLIENTS,
    DISCONNECTIONS,
    DOWNTIME,
    DURATION,
    FLAPPING,
    HEARTBEAT_RTT,
    MISSED,
    OPENED,
    OTHER,
    RECONNECTS,
    REJECTED,
    SOURCE_GAPS,
    STALE,
    VERDICTS,
    Instrument,
)

_NODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
    handshakes_rejected: Mapping[str, int] = field(default_factory=dict)
    reconnects: Mapping[str, int] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    clients: Mapping[str, int] = field(default_factory=dict)
    """Open connections by node id."""
    duration: HistogramFigures | None = None
    heartbeat_rtt: HistogramFigures | None = None
    downtime: HistogramFigures | None = None


def _counter(instrument: Instrument, figures: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    closed = [frozenset(values) for values in instrument.labels.values()]
    totals: dict[tuple[str, ...], int] = {}
    for values, figure in figures:
        labels = tuple(value if value in known else OTHER for value, known in zip(values, closed, strict=True))
        totals[labels] = totals.get(labels, 0) + figure
    family = CounterMetricFamily(instrument.name, instrument.meaning, labels=list(instrument.labels))
    for labels, total in sorted(totals.items()):
        family.add_metric(labels, total)
    return family


def _gauge(instrument: Instrument, figures: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    family = GaugeMetricFamily(instrument.name, instrument.meaning, labels=list(instrument.labels))
    for labels, figure in figures:
        family.add_metric(labels, figure)
    return family


def _histogram(instrument: Instrument, figures: HistogramFigures) -> Metric:
    family = HistogramMetricFamily(instrument.name, instrument.meaning)
    bounds = [*(str(float(bound)) for bound in figures.bounds), "+Inf"]
    family.add_metric([], list(zip(bounds, accumulate(figures.counts), strict=True)), figures.sum)
    return family


def _single(mapping: Mapping[str, int]) -> list[tuple[tuple[str, ...], int]]:
    return [((key,), figure) for key, figure in mapping.items()]


def domain_families(figures: DomainFigures) -> list[Metric]:
    """The projections' figures as metric families; label values outside the closed lists are summed as ``other``."""
    nodes: dict[tuple[str, ...], int] = {}
    for node, clients in figures.clients.items():
        label = (node if _NODE.fullmatch(node) else OTHER,)
        nodes[label] = nodes.get(label, 0) + clients
    families = [
        _counter(DISCONNECTIONS, figures.disconnections.items()),
        _gauge(CLIENTS, sorted(nodes.items())),
        _counter(OPENED, [((), figures.connections_opened)]),
        _counter(REJECTED, _single(figures.handshakes_rejected)),
        _counter(MISSED, [((), figures.heartbeats_missed)]),
        _gauge(STALE, [((), figures.stale_clients)]),
        _counter(RECONNECTS, _single(figures.reconnects)),
        _counter(VERDICTS, _single(figures.verdicts)),
        _counter(SOURCE_GAPS, [((), figures.source_gaps)]),
    ]
    if figures.flapping_clients is not None:
        families.append(_gauge(FLAPPING, [((), figures.flapping_clients)]))
    for instrument, histogram in (
        (DURATION, figures.duration),
        (HEARTBEAT_RTT, figures.heartbeat_rtt),
        (DOWNTIME, figures.downtime),
    ):
        if histogram is not None:
            families.append(_histogram(instrument, histogram))
    return families
