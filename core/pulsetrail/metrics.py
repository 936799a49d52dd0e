"""Every instrument: what it means, its labels, the values they can have, and why its buckets are where they are.

Two kinds. Those about the pipeline are counted where it happens (``PipelineMetrics``), per process. Those about the
domain are folded from the log and exported once (``domain_metrics.py``), whatever the number of processes.

A label's value comes from a closed list; whatever else is offered becomes ``other``. No client, page or connection id
is ever a label.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pulsetrail.close_codes import CLIENT_CAUSES, Initiator, Reason
from pulsetrail.events import CATALOGUE, EventClass

OTHER: Final = "other"

APPEND_RESULTS: Final = ("appended", "lane_gap", "clock_skew", "unavailable", "failed", OTHER)
DROP_REASONS: Final = (
    "journal_full",
    "journal_failed",
    "journal_damaged",
    "unencodable",
    "refused",
    "unstorable",
    "hole",
    OTHER,
)
COLLECTOR_OUTCOMES: Final = (
    "accepted",
    "rejected",
    # From here on the batch was refused undecoded, and counts as one.
    "malformed",
    "unauthorized",
    "too_large",
    "rate_limited",
    "overloaded",
    "dead_letter_dropped",
    OTHER,
)
REJECTIONS: Final = (
    "rate_limited",
    "unauthorized",
    "forbidden",
    "connection_limit",
    "overloaded",
    "server_shutdown",
    "flap_held",
    "protocol_error",
    "internal_error",
    OTHER,
)
PROJECTIONS: Final = ("connections", "closes", "clients", "nodes", "counters", "source_gaps", OTHER)
LOKI_DROPS: Final = ("queue_full", "refused", "stopped", OTHER)
BREAKER_STATES: Final = ("closed", "half_open", "open")
"""The value of ``pulsetrail_breaker_state`` is the index."""

_REASONS: Final = (*Reason, OTHER)
_CAUSES: Final = (*sorted(CLIENT_CAUSES), OTHER)
_INITIATORS: Final = (*Initiator, OTHER)
_ANY_NODE: Final = ("<a node's id>",)


class Instrument(NamedTuple):
    """One metric as it is declared."""

    name: str
    kind: str
    meaning: str
    labels: Mapping[str, Sequence[str]] = {}
    bounds: Sequence[float] = ()
    """Upper bounds of a histogram's buckets; the reason for them is in the comment beside."""


# A commit is 8 us without fsync and 0.2 ms with it; from 50 ms on, a handshake is late for it.
_COMMIT_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5)
# A batch of 1,000 takes about 10 ms; the statement timeout ends what takes longer than the last bound.
_APPEND_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Powers of ten with halves, up to the largest batch: is the shipper trickling or catching up?
_BATCH_BOUNDS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000)
# 10,000 clients take about 100 ms; beyond one interval of live figures (1 s) broadcasts pile up.
_BROADCAST_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
# Below 5 ms nobody notices; 250 ms shows in heartbeat round trips; seconds mean something blocks the loop.
_LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

JOURNAL_ROWS: Final = Instrument("pulsetrail_journal_rows", "gauge", "Events in the journal that wait for the log.")
JOURNAL_BYTES: Final = Instrument("pulsetrail_journal_bytes", "gauge", "Size of the journal on disk, WAL included.")
JOURNAL_OLDEST: Final = Instrument(
    "pulsetrail_journal_oldest_seconds", "gauge", "Age of the oldest event that waits for the log."
)
JOURNAL_COMMIT: Final = Instrument(
    "pulsetrail_journal_commit_seconds", "histogram", "Time of a group commit of the journal.", {}, _COMMIT_BOUNDS
)
APPEND_SECONDS: Final = Instrument(
    "pulsetrail_append_seconds", "histogram", "Time of one append to the log, whatever its result.", {}, _APPEND_BOUNDS
)
APPEND_BATCH: Final = Instrument(
    "pulsetrail_append_batch_events", "histogram", "Events in a batch sent to the log.", {}, _BATCH_BOUNDS
)
APPEND_TOTAL: Final = Instrument(
    "pulsetrail_append_total", "counter", "Batches sent to the log, by result.", {"result": APPEND_RESULTS}
)
EVENTS_DROPPED: Final = Instrument(
    "pulsetrail_events_dropped_total",
    "counter",
    "Events that were given up, by class (lifecycle never is while its journal works) and reason.",
    {"class": (*EventClass, "unknown", OTHER), "reason": DROP_REASONS},
)
PROJECTION_LAG_EVENTS: Final = Instrument(
    "pulsetrail_projection_lag_events",
    "gauge",
    "Events between a projection and the head of the log, all shards.",
    {"projection": PROJECTIONS},
)
PROJECTION_LAG_SECONDS: Final = Instrument(
    "pulsetrail_projection_lag_seconds",
    "gauge",
    "Age of the oldest event that a projection has not folded yet.",
    {"projection": PROJECTIONS},
)
PROJECTION_DEAD_LETTERS: Final = Instrument(
    "pulsetrail_projection_dead_letters",
    "gauge",
    "Events that a projection could not fold and set aside.",
    {"projection": PROJECTIONS},
)
CONTIGUITY_VIOLATIONS: Final = Instrument(
    "pulsetrail_contiguity_violations_total",
    "counter",
    "Reads of the log that met a hole in the positions; anything above 0 is a bug or a damaged log.",
)
PARTITIONS_AHEAD: Final = Instrument(
    "pulsetrail_partitions_ahead", "gauge", "Days ahead for which the log has partitions; at 0 appends fail."
)
BROADCAST_SECONDS: Final = Instrument(
    "pulsetrail_broadcast_seconds",
    "histogram",
    "Time to hand one update to every connection of the process.",
    {},
    _BROADCAST_BOUNDS,
)
BREAKER_STATE: Final = Instrument(
    "pulsetrail_breaker_state", "gauge", "Circuit breaker of the broadcast: 0 closed, 1 half open, 2 open."
)
COLLECTOR_EVENTS: Final = Instrument(
    "pulsetrail_collector_events_total",
    "counter",
    "Client events by what became of them; a batch that was refused before it was decoded counts as one.",
    {"outcome": COLLECTOR_OUTCOMES},
)
EVENT_LOOP_LAG: Final = Instrument(
    "pulsetrail_event_loop_lag_seconds", "histogram", "How late the event loop runs a timer.", {}, _LAG_BOUNDS
)
EVENT_LOOP_TASKS: Final = Instrument(
    "pulsetrail_event_loop_tasks", "gauge", "Unfinished tasks of the event loop; they do not grow with the connections."
)
WATCHERS: Final = Instrument(
    "pulsetrail_watchers",
    "gauge",
    "Connections that asked for the live figures, and 1 while somebody polls for updates.",
)
LOKI_DROPPED: Final = Instrument(
    "pulsetrail_loki_lines_dropped_total", "counter", "Log lines that Loki did not get.", {"reason": LOKI_DROPS}
)
LOG_LINES_DROPPED: Final = Instrument(
    "pulsetrail_log_lines_dropped_total", "counter", "Log lines that standard output did not take in time."
)

LOG_EVENTS: Final = Instrument(
    "pulsetrail_log_events_total",
    "counter",
    "Events in the log, by type, as far as they are folded.",
    {"type": (*CATALOGUE, OTHER)},
)
DISCONNECTIONS: Final = Instrument(
    "ws_updates_disconnections_total",
    "counter",
    "Connections that ended, by reason and by whose doing it was.",
    {"reason": _REASONS, "initiator": _INITIATORS},
)
CLIENTS: Final = Instrument("ws_updates_clients", "gauge", "Open connections of a node.", {"node": _ANY_NODE})
OPENED: Final = Instrument("ws_updates_connections_opened_total", "counter", "Connections that were opened.")
REJECTED: Final = Instrument(
    "ws_updates_handshakes_rejected_total",
    "counter",
    "Handshakes that were refused, by reason.",
    {"reason": REJECTIONS},
)
MISSED: Final = Instrument(
    "ws_updates_heartbeats_missed_total", "counter", "Heartbeats that were unanswered when the next was due."
)
STALE: Final = Instrument("ws_updates_stale_clients", "gauge", "Open connections that miss their heartbeats.")
FLAPPING: Final = Instrument(
    "ws_updates_flapping_clients", "gauge", "Clients whose flap penalty, decayed to now, is above the threshold."
)
RECONNECTS: Final = Instrument(
    "ws_updates_reconnects_total",
    "counter",
    "Connections that follow an earlier one of the same page, by the cause that the client states.",
    {"cause": _CAUSES},
)
DURATION: Final = Instrument(
    "ws_updates_connection_duration_seconds", "histogram", "Age of connections when they ended."
)
HEARTBEAT_RTT: Final = Instrument(
    "ws_updates_heartbeat_rtt_seconds", "histogram", "Time from a heartbeat to the page's answer."
)
DOWNTIME: Final = Instrument(
    "ws_updates_downtime_seconds", "histogram", "Time from an end to the next connection of the same page."
)
VERDICTS: Final = Instrument(
    "ws_updates_verdicts_total", "counter", "Verdicts on ended connections, by cause.", {"cause": _REASONS}
)
SOURCE_GAPS: Final = Instrument(
    "pulsetrail_source_gaps_total",
    "counter",
    "Holes in what the nodes numbered: events that never reached the log. 0 for ever, or an alert.",
)

INSTRUMENTS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Instrument))


# --- about the pipeline, counted where it happens -----------------------------------------------------------------


class _ClosedCounter:
    """A counter whose children all exist from the start, so that the first increment shows as an increase."""

    def __init__(self, instrument: Instrument, registry: CollectorRegistry) -> None:
        counter = Counter(instrument.name, instrument.meaning, list(instrument.labels), registry=registry)
        self._width = len(instrument.labels)
        self._known = [frozenset(values) for values in instrument.labels.values()]
        self._children = {values: counter.labels(*values) for values in product(*instrument.labels.values())}

    def add(self, count: int, *values: str) -> None:
        child = self._children.get(values)
        if child is None:
            closed = (value if value in known else OTHER for value, known in zip(values, self._known, strict=True))
            child = self._children[tuple(closed)]
        child.inc(count)


class PipelineMetrics:
    """What one process tells about its own work; a ``PipelineObserver``. Any thread may call.

    Gauges and histograms appear with their first value: a process that has no partitions to make must not report 0
    of them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._lock = threading.Lock()
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._append_total = _ClosedCounter(APPEND_TOTAL, registry)
        self._dropped = _ClosedCounter(EVENTS_DROPPED, registry)
        self._collector = _ClosedCounter(COLLECTOR_EVENTS, registry)
        self._loki_dropped = _ClosedCounter(LOKI_DROPPED, registry)
        self._contiguity = Counter(CONTIGUITY_VIOLATIONS.name, CONTIGUITY_VIOLATIONS.meaning, registry=registry)
        self._log_dropped = Counter(LOG_LINES_DROPPED.name, LOG_LINES_DROPPED.meaning, registry=registry)

    def _gauge(self, instrument: Instrument) -> Gauge:
        gauge = self._gauges.get(instrument.name)
        if gauge is None:
            with self._lock:
                gauge = self._gauges.get(instrument.name)
                if gauge is None:
                    gauge = Gauge(instrument.name, instrument.meaning, list(instrument.labels), registry=self.registry)
                    self._gauges[instrument.name] = gauge
        return gauge

    def _histogram(self, instrument: Instrument) -> Histogram:
        histogram = self._histograms.get(instrument.name)
        if histogram is None:
            with self._lock:
                histogram = self._histograms.get(instrument.name)
                if histogram is None:
                    histogram = Histogram(
                        instrument.name, instrument.meaning, buckets=instrument.bounds, registry=self.registry
                    )
                    self._histograms[instrument.name] = histogram
        return histogram

    # PipelineObserver

    def journal_committed(self, rows: int, seconds: float) -> None:
        """See ``PipelineObserver``."""
        self._histogram(JOURNAL_COMMIT).observe(seconds)

    def journal_size(self, rows: int, size_bytes: int, oldest_seconds: float) -> None:
        """See ``PipelineObserver``."""
        self._gauge(JOURNAL_ROWS).set(rows)
        self._gauge(JOURNAL_BYTES).set(size_bytes)
        self._gauge(JOURNAL_OLDEST).set(oldest_seconds)

    def append_finished(self, result: str, rows: int, seconds: float) -> None:
        """See ``PipelineObserver``."""
        self._append_total.add(1, result)
        self._histogram(APPEND_SECONDS).observe(seconds)
        self._histogram(APPEND_BATCH).observe(rows)

    def events_dropped(self, event_class: str, reason: str, count: int) -> None:
        """See ``PipelineObserver``."""
        self._dropped.add(count, event_class, reason)

    # Gateway

    def broadcast_finished(self, seconds: float) -> None:
        """One update was handed to every connection of this process."""
        self._histogram(BROADCAST_SECONDS).observe(seconds)

    def breaker_changed(self, state: str) -> None:
        """The broadcast's circuit breaker is now in one of ``BREAKER_STATES``."""
        self._gauge(BREAKER_STATE).set(BREAKER_STATES.index(state))

    def loop_lagged(self, seconds: float) -> None:
        """A timer of the event loop ran ``seconds`` late."""
        self._histogram(EVENT_LOOP_LAG).observe(seconds)

    def loop_tasks(self, count: int) -> None:
        """The event loop has ``count`` tasks that are not done."""
        self._gauge(EVENT_LOOP_TASKS).set(count)

    def watched(self, count: int) -> None:
        """``count`` want the live figures of this process."""
        self._gauge(WATCHERS).set(count)

    # Collector and logs

    def collector_events(self, outcome: str, count: int = 1) -> None:
        """``count`` client events (or 1 undecoded batch) met an outcome of ``COLLECTOR_OUTCOMES``."""
        self._collector.add(count, outcome)

    def loki_lines_dropped(self, reason: str, count: int = 1) -> None:
        """Loki did not get ``count`` lines for a reason of ``LOKI_DROPS``."""
        self._loki_dropped.add(count, reason)

    def log_lines_dropped(self, count: int = 1) -> None:
        """Standard output did not take ``count`` lines in time."""
        self._log_dropped.inc(count)

    # Projector

    def projection_measured(self, projection: str, lag_events: int, lag_seconds: float, dead_letters: int) -> None:
        """Where a projection stands against the real head of the log."""
        label = projection if projection in PROJECTIONS else OTHER
        self._gauge(PROJECTION_LAG_EVENTS).labels(label).set(lag_events)
        self._gauge(PROJECTION_LAG_SECONDS).labels(label).set(lag_seconds)
        self._gauge(PROJECTION_DEAD_LETTERS).labels(label).set(dead_letters)

    def contiguity_violated(self) -> None:
        """A read of the log met a hole."""
        self._contiguity.inc()

    def partitions_measured(self, days_ahead: int) -> None:
        """For how many days ahead the log has partitions."""
        self._gauge(PARTITIONS_AHEAD).set(days_ahead)
