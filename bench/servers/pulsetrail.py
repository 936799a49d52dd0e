"""Pulsetrail itself: ``pulsetrail serve`` with one gateway, its journal with fsync, and its embedded Postgres."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from bench.peers.framing import message
from bench.processes import cpu_seconds, family, resident_bytes
from bench.servers.http import post_all
from bench.servers.server import START_SECONDS, Server
from bench.stage import BenchError

SETTINGS: Final = {
    "PULSETRAIL_JOURNAL_SYNC": "full",
    # The clients of a benchmark come from one address; the defaults would turn them away.
    "PULSETRAIL_MAX_CONNECTIONS_PER_ADDRESS": "20000",
    "PULSETRAIL_HANDSHAKE_RATE": "100000000/minute",
    "PULSETRAIL_HANDSHAKE_RATE_PER_ADDRESS": "100000000/minute",
    # No other server sends its own figures to everybody once a second.
    "PULSETRAIL_LIVE_FIGURES_INTERVAL": "0",
    "PULSETRAIL_DRAIN_SECONDS": "0",
}

_ENVELOPE: Final = len('{"type":"update","stream_position":100,"topic":"bench","data":}')

_PAUSE: Final = 0.003
"""Seconds between an answer and the next update: the gateway has begun to write the last one to everybody, which with
thousands of clients takes it several times as long."""


class Pulsetrail(Server):
    """The product, started as anybody would."""

    name = "pulsetrail"
    path = "/ws/updates"
    welcomes = True

    def __init__(self, scratch: Path, heartbeat: float = 30.0, **settings: str) -> None:
        """``heartbeat`` is the time in seconds between two heartbeats of one connection; ``settings`` are environment
        variables that differ from ``SETTINGS``."""
        super().__init__(scratch)
        self._data = scratch / "data"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PULSETRAIL_", "DATABASE_"))},
            **SETTINGS,
            "PULSETRAIL_HEARTBEAT_INTERVAL": str(heartbeat),
            **settings,
            "PULSETRAIL_DATA_DIR": str(self._data),
        }

    async def start(self) -> None:
        await self.run([sys.executable, "-m", "pulsetrail.cli", "serve", "--port", "0"], self._environment)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            self.check()
            if found := re.search(r"ws://[^:/]+:(\d+)/ws/updates", self.output()):
                self.port = int(found[1])
                if await asyncio.to_thread(self._is_ready):
                    return
            await asyncio.sleep(0.05)
        raise BenchError(f"pulsetrail serve was not ready in {START_SECONDS:.0f} s.")

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    @property
    def serving(self) -> int:
        return int(json.loads((self._data / "run" / "gateway-0.json").read_text(encoding="utf-8"))["pid"])

    def everything(self) -> set[int]:
        assert self._process is not None  # noqa: S101 - started
        postmaster = int((self._data / "postgres" / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])
        return family([self._process.pid, postmaster])

    def cpu(self) -> float:
        return cpu_seconds([self.serving])

    def memory(self) -> int:
        return resident_bytes(self.serving)

    async def publish(self, count: int, size: int) -> None:
        """By ``POST /v1/updates``, a request at a time: the next one comes while the gateway writes the last update to
        everybody, so that it neither waits nor writes two at once."""
        await self.publish_joined(count, size, publishers=1, pause=_PAUSE)

    async def publish_joined(self, count: int, size: int, *, publishers: int, pause: float = 0.0) -> None:
        """The same with several requests at a time: updates that come while others are written share a write."""

        def body() -> str:
            return f'{{"topic":"bench","data":{message(size - _ENVELOPE)}}}'

        await post_all(self.port, "/v1/updates", count, body, connections=publishers, pause=pause)

    async def metrics(self) -> dict[str, float]:
        """The samples of ``/metrics`` by name, those with several labels added up (histogram buckets left out)."""
        found: dict[str, float] = {}
        for family_ in text_string_to_metric_families(await self.scrape()):
            for sample in family_.samples:
                if not sample.name.endswith("_bucket"):
                    found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    async def lag(self) -> dict[float, float]:
        """The gateway's histogram of its event loop's lag: samples up to each bound in seconds."""
        return {
            float(sample.labels["le"]): sample.value
            for family_ in text_string_to_metric_families(await self.scrape())
            for sample in family_.samples
            if sample.name == "pulsetrail_event_loop_lag_seconds_bucket" and sample.labels["process"] == "gateway-0"
        }

    async def scrape(self) -> str:
        """The text of ``/metrics``."""
        return await asyncio.to_thread(self._scrape)

    def _scrape(self) -> str:
        address = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(address, timeout=30) as answer:
            body: bytes = answer.read()
        return body.decode()

    async def command(self, *arguments: str) -> Any:
        """What a ``pulsetrail`` command prints with ``--json``: its lines, decoded.

        Raises:
            BenchError: it failed.
        """
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pulsetrail.cli", *arguments, "--json"),
            env=self._environment,
            cwd=self.scratch,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        output, errors = await process.communicate()
        if process.returncode:
            raise BenchError(f"pulsetrail {arguments[0]} failed: {errors.decode().strip()[-300:]}")
        return [json.loads(line) for line in output.splitlines()]
