"""The service's own live figures as updates on topic ``telemetry``: what the Monitor page shows.

They come from the metrics' snapshots: those of the domain, which the projections fold from the log, and those of the
pipeline, one for all processes of this host. Nothing is counted here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from pulsetrail.errors import LogUnavailable
from pulsetrail.metrics import (
    BREAKER_STATE,
    EVENT_LOOP_LAG,
    EVENTS_DROPPED,
    JOURNAL_BYTES,
    JOURNAL_COMMIT,
    JOURNAL_OLDEST,
    JOURNAL_ROWS,
    PARTITIONS_AHEAD,
    PROJECTION_DEAD_LETTERS,
    PROJECTION_LAG_EVENTS,
    PROJECTION_LAG_SECONDS,
    WATCHERS,
    Instrument,
    PipelineMetrics,
)
from pulsetrail.metrics_snapshot import Family, Snapshot, SnapshotReader
from pulsetrail_service.frames import encode_json
from pulsetrail_service.updates import Broadcaster
from pulsetrail_service.watchers import Watchers

TOPIC: Final = "telemetry"
PAST_SECONDS: Final = 600
PAST_STEP_SECONDS: Final = 5
"""Fine enough for charts; 120 times some kilobytes."""

Merge = Callable[[Iterable[float]], float]

_MERGES: Final[tuple[tuple[Merge, tuple[Instrument, ...]], ...]] = (
    (
        sum,
        (
            JOURNAL_ROWS,
            JOURNAL_BYTES,
            EVENTS_DROPPED,
            PROJECTION_DEAD_LETTERS,
            JOURNAL_COMMIT,
            EVENT_LOOP_LAG,
            WATCHERS,
        ),
    ),
    (max, (JOURNAL_OLDEST, PROJECTION_LAG_EVENTS, PROJECTION_LAG_SECONDS, BREAKER_STATE)),
    (min, (PARTITIONS_AHEAD,)),
)
_OF_ALL_PROCESSES: Final = {one.name.removesuffix("_total"): merge for merge, those in _MERGES for one in those}
"""The pipeline's figures that are published, by the name of their family, and how those of several processes make one:
what waits adds up, and of ages and states the worst counts."""

logger = logging.getLogger("pulsetrail.gateway")


class RecentFigures:
    """The figures of the last minutes, each as JSON, so that a page that is opened now has a past to show."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=int(PAST_SECONDS / PAST_STEP_SECONDS))

    def wants(self, time_ms: int) -> bool:
        """Whether figures of that time would be far enough from the newest kept ones."""
        return not self._kept or time_ms - self._kept[-1][0] >= PAST_STEP_SECONDS * 1000

    def keep(self, time_ms: int, figures: bytes) -> None:
        """Keep them, and forget the oldest."""
        self._kept.append((time_ms, figures))

    def after(self, time_ms: int) -> list[bytes]:
        """Those of later than a time, in its order."""
        return [figures for kept_ms, figures in self._kept if kept_ms > time_ms]


class LiveFigures:
    """Keeps them for those who come later, and publishes them while anybody watches, in this process or in another one
    of this host."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        reader: SnapshotReader,
        watchers: Watchers,
        metrics: PipelineMetrics,
        recent: RecentFigures,
        *,
        publishes: bool,
        alone: bool,
    ) -> None:
        """Of several processes one ``publishes`` for all, and the others only tell it, by a metric, who watches there;
        one that is ``alone`` need not look at the others. Each keeps them in ``recent``."""
        self._broadcaster = broadcaster
        self._reader = reader
        self._watchers = watchers
        self._metrics = metrics
        self._recent = recent
        self._publishes = publishes
        self._alone = alone

    async def run(self, interval: float) -> None:
        """Publish every ``interval`` seconds until cancelled; a round that fails is left out."""
        while True:
            await asyncio.sleep(interval)
            try:
                await self._round()
            except LogUnavailable:
                continue
            except Exception:
                logger.exception("the live figures could not be published")

    async def _round(self) -> None:
        watching = self._watchers.count()
        self._metrics.watched(watching)
        now_ms = time.time_ns() // 1_000_000
        keeps = self._recent.wants(now_ms)
        publishes = self._publishes and (watching > 0 or not self._alone)
        if not (keeps or publishes):
            return
        figures = await asyncio.to_thread(read_live_figures, self._reader)
        encoded = encode_json(figures)
        if keeps:
            self._recent.keep(figures["time"], encoded)
        if publishes and (watching or figures["pipeline"].get(WATCHERS.name)):
            await self._broadcaster.publish(TOPIC, encoded)


def read_live_figures(reader: SnapshotReader) -> dict[str, Any]:
    """The figures now, by the metric's name without ``_total``.

    ``figures`` are the domain's: a number, a table by the label's value (several labels joined by ``/``; zeros are left
    out), or a histogram with its cumulative buckets by upper bound, ``sum`` and ``count``. ``current`` is false, and
    there are none, while no projector exports any. ``pipeline`` are the pipeline's, in the same forms but without
    labels, for ``processes`` together.
    """
    snapshots = reader.snapshots()
    families = next((s.domain for s in reversed(snapshots) if s.domain is not None), None)
    return {
        "time": time.time_ns() // 1_000_000,
        "current": families is not None,
        "figures": {family.name: _figure(family) for family in families or []},
        "pipeline": _pipeline(snapshots),
        "processes": [snapshot.process for snapshot in snapshots],
    }


def _figure(family: Family) -> Any:
    if family.kind == "histogram":
        return _histogram([family])
    samples = [(labels, value) for _, labels, value in family.samples]
    if samples and not any(labels for labels, _ in samples):
        return sum(value for _, value in samples)
    table: defaultdict[str, float] = defaultdict(float)
    for labels, value in samples:
        if value:
            table["/".join(labels.values())] += value
    return table


def _pipeline(snapshots: Sequence[Snapshot]) -> dict[str, Any]:
    found: defaultdict[str, list[Family]] = defaultdict(list)
    for snapshot in snapshots:
        for family in snapshot.pipeline:
            if family.name in _OF_ALL_PROCESSES:
                found[family.name].append(family)
    return {
        name: _histogram(families)
        if families[0].kind == "histogram"
        else _OF_ALL_PROCESSES[name](value for family in families for _, _, value in family.samples)
        for name, families in found.items()
        if any(family.samples for family in families)
    }


def _histogram(families: Sequence[Family]) -> dict[str, float]:
    merged: defaultdict[str, float] = defaultdict(float)
    for family in families:
        for name, labels, value in family.samples:
            merged[labels["le"] if name.endswith("_bucket") else name.rpartition("_")[2]] += value
    return merged
