"""The domain's figures, folded from the log, in the form in which Prometheus takes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
    LOG_EVENTS,
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
from pulsetrail.projections.figures import DomainFigures, HistogramFigures

__all__ = ["DomainFigures", "HistogramFigures", "domain_families"]

_NODE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
        _counter(LOG_EVENTS, _single(figures.events)),
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
