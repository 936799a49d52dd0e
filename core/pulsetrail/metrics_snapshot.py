"""How ``/metrics`` answers for every process: each writes its figures to a file once a second, any of them merges all.

The multiprocess mode of prometheus_client is not used: it allows no custom collectors and keeps the files of dead
workers. Here a snapshot is one small file a process, replaced atomically; one that is not renewed is ignored after
``FRESH_SECONDS``, so a dead process vanishes from the next scrape. Ages are taken from the monotonic clock, which the
processes of one host share and no clock adjustment moves.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as plain_text
from prometheus_client.core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics_text

from pulsetrail.metrics import PipelineMetrics

FRESH_SECONDS: Final = 5.0
INTERVAL_SECONDS: Final = 1.0
SUFFIX: Final = ".snapshot"
PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_PROCESS: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Family(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A metric and its samples: (name, labels, value)."""

    name: str
    kind: str
    meaning: str
    samples: list[tuple[str, dict[str, str], float]]


class Snapshot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The figures of one process at one moment."""

    process: str
    taken_at: float
    """Seconds of the host's monotonic clock."""
    pipeline: list[Family]
    domain: list[Family] | None
    """``None`` unless this process is the one that exports the domain's figures now."""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Snapshot)


def families_of(metrics: Iterable[Metric]) -> list[Family]:
    """prometheus_client's form to the snapshot's, without the ``_created`` samples, which nothing here reads."""
    return [
        Family(
            metric.name,
            metric.type,
            metric.documentation,
            [
                (sample.name, dict(sample.labels), sample.value)
                for sample in metric.samples
                if not sample.name.endswith("_created")
            ],
        )
        for metric in metrics
    ]


class SnapshotWriter:
    """Writes the figures of this process to ``<directory>/<process>.snapshot``."""

    def __init__(
        self, directory: Path, process: str, registry: CollectorRegistry, *, interval: float = INTERVAL_SECONDS
    ) -> None:
        """``process`` is the value of the label, such as ``gateway-0``."""
        if not _PROCESS.fullmatch(process):
            raise ValueError(f"{process!r} cannot be a file's name and a label")
        self.path = directory / f"{process}{SUFFIX}"
        self._process = process
        self._registry = registry
        self._interval = interval
        self._domain: list[Family] | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def publish(self, domain: Sequence[Metric] | None) -> None:
        """Set what this process exports of the domain from now on; ``None`` when another one does."""
        self._domain = None if domain is None else families_of(domain)

    def write(self) -> None:
        """Write the file once.

        Raises:
            OSError: the disk refused it.
        """
        snapshot = Snapshot(self._process, time.monotonic(), families_of(self._registry.collect()), self._domain)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_bytes(_encoder.encode(snapshot))
        with self._lock:
            if self._stopped:
                fresh.unlink()
            else:
                fresh.replace(self.path)

    async def run(self) -> None:
        """Write every ``interval`` until cancelled, then take the file away. A full disk only makes figures old."""
        try:
            while True:
                with contextlib.suppress(OSError):  # the figures that stay away are what an alert on absent() sees
                    await asyncio.to_thread(self.write)
                await asyncio.sleep(self._interval)
        finally:
            with self._lock:  # a write that is still in its thread must not bring the file back
                self._stopped = True
                self.path.unlink(missing_ok=True)


class SnapshotReader:
    """Merges the snapshots of a directory."""

    def __init__(
        self,
        directory: Path,
        *,
        fresh_seconds: float = FRESH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._fresh_seconds = fresh_seconds
        self._clock = clock

    def snapshots(self) -> list[Snapshot]:
        """The fresh ones, by process. A file that is damaged or from before a reboot is not fresh."""
        found = []
        now = self._clock()
        for path in sorted(self._directory.glob(f"*{SUFFIX}")):
            try:
                snapshot = _decoder.decode(path.read_bytes())
            except (OSError, msgspec.DecodeError):
                continue
            if 0 <= now - snapshot.taken_at <= self._fresh_seconds:
                found.append(snapshot)
        return found

    def collect(self) -> Iterable[Metric]:
        """All figures as prometheus_client's families; those of the pipeline with the label ``process``."""
        snapshots = self.snapshots()
        pipeline = sorted(
            ((family, snapshot.process) for snapshot in snapshots for family in snapshot.pipeline),
            key=lambda pair: pair[0].name,
        )
        for _, group in groupby(pipeline, key=lambda pair: pair[0].name):
            merged: Metric | None = None
            for family, process in group:
                if merged is None:
                    merged = Metric(family.name, family.meaning, family.kind)
                for name, labels, value in family.samples:
                    merged.add_sample(name, {**labels, "process": process}, value)
            if merged is not None:
                yield merged
        # Two projectors may both claim the domain for a moment, while one takes over from the other.
        exporters = [snapshot for snapshot in snapshots if snapshot.domain is not None]
        if exporters:
            newest = max(exporters, key=lambda snapshot: snapshot.taken_at)
            for family in newest.domain or []:
                metric = Metric(family.name, family.meaning, family.kind)
                for name, labels, value in family.samples:
                    metric.add_sample(name, labels, value)
                yield metric

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body of a scrape and its content type: OpenMetrics if ``accept`` names it, else the plain text format."""
        if "application/openmetrics-text" in accept:
            body: bytes = openmetrics_text(self)  # type: ignore[no-untyped-call]  # not annotated upstream
            return body, OPENMETRICS
        return plain_text(self), PLAIN


async def sample_loop(metrics: PipelineMetrics, *, interval: float = 0.5) -> None:
    """Measure how late the running loop's timers are and how many tasks it has, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + interval
        await asyncio.sleep(interval)
        metrics.loop_lagged(max(0.0, loop.time() - due))
        metrics.loop_tasks(len(asyncio.all_tasks()))
