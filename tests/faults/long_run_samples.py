"""Looks at a running service from outside: its processes, and what they say of themselves on ``/metrics``."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Final

import httpx
import psutil
from long_run_figures import Sample
from prometheus_client.parser import text_string_to_metric_families
from service_runner import Service

METRICS: Final = {
    "pulsetrail_event_loop_tasks": "tasks",
    "pulsetrail_journal_bytes": "journal_bytes",
    "pulsetrail_journal_rows": "journal_rows",
}


class Sampler:
    """Samples of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._http = httpx.AsyncClient(timeout=10)

    async def take(self, seconds: float) -> list[Sample]:
        """A sample of each process, ``seconds`` after the start."""
        said = await self._said()
        found = []
        for name, process in self._processes():
            with contextlib.suppress(psutil.NoSuchProcess):  # the next sample has its successor
                cpu = process.cpu_times()
                found.append(
                    Sample(
                        seconds=seconds,
                        process=name,
                        memory_bytes=process.memory_info().rss,
                        descriptors=process.num_fds(),
                        cpu_seconds=cpu.user + cpu.system,
                        **said.get(name, {}),
                    )
                )
        with contextlib.suppress(psutil.NoSuchProcess, OSError, ValueError):
            found.append(self._postgres(seconds))
        return found

    async def close(self) -> None:
        await self._http.aclose()

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        """The supervisor and its workers."""
        supervisor = None
        for path in sorted((self._service.data_dir / "run").glob("*.json")):
            with contextlib.suppress(OSError, ValueError, KeyError, psutil.NoSuchProcess):
                worker = psutil.Process(json.loads(path.read_text())["pid"])
                yield path.stem, worker
                supervisor = supervisor or worker.parent()
        if supervisor is not None:
            yield "serve", supervisor

    def _postgres(self, seconds: float) -> Sample:
        server = psutil.Process(self._service.postgres_pid())
        memory = descriptors = 0
        cpu = 0.0
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                sizes = process.memory_info()
                memory += sizes.rss - sizes.shared
                descriptors += process.num_fds()
                times = process.cpu_times()
                cpu += times.user + times.system
        ended = server.cpu_times()  # of those that are gone
        return Sample(seconds, "postgres", memory, descriptors, cpu + ended.children_user + ended.children_system)

    async def _said(self) -> dict[str, dict[str, float]]:
        """By process, what it says of itself."""
        said: dict[str, dict[str, float]] = {}
        with contextlib.suppress(httpx.HTTPError):
            text = (await self._http.get(f"{self._service.http}/metrics")).text
            for family in text_string_to_metric_families(text):
                if family.name in METRICS:
                    for sample in family.samples:
                        said.setdefault(sample.labels["process"], {})[METRICS[family.name]] = sample.value
        return said
