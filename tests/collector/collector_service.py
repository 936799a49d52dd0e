"""A collector behind a real server, with its journal, and a client for it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import msgspec
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from pulsetrail.events import Event
from pulsetrail.journal import Journal
from pulsetrail.log import Deployment
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.settings import Settings
from pulsetrail_collector.app import build_collector, collector_server
from pulsetrail_collector.dead_letters import DeadLetters
from pulsetrail_collector.routes import router

SHARDS = 4


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The app behind a real server on a free port; gives its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = collector_server(app)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


class Service:
    """A collector with its journal, and a client for it."""

    def __init__(self, journal: Journal, metrics: PipelineMetrics, dead_letters: DeadLetters, url: str) -> None:
        self.journal = journal
        self.metrics = metrics
        self.dead_letters = dead_letters
        self.url = url
        self.http = httpx.AsyncClient(base_url=url)

    async def send(self, body: Any, path: str = "/v1/telemetry", **headers: str) -> httpx.Response:
        """Post a batch; what is not bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(path, content=content, headers={"content-type": "application/json", **named})

    async def recorded(self) -> list[Event]:
        """What the journal holds, as a fresh read of its file gives it."""
        events: list[Event] = []
        for shard in range(SHARDS):
            pending = await self.journal.pending(shard, 1000)
            events += pending.events if pending else []
        return events

    def count(self, outcome: str) -> float:
        """The counter of an outcome."""
        value = self.metrics.registry.get_sample_value("pulsetrail_collector_events_total", {"outcome": outcome})
        assert value is not None
        return value


class Start(Protocol):
    """Starts a collector with the settings given."""

    async def __call__(self, *, journal_bytes: int = 64 << 20, **settings: Any) -> Service: ...


async def start_collector(
    stack: AsyncExitStack, directory: Path, *, journal_bytes: int = 64 << 20, **settings: Any
) -> Service:
    """Start one; ``stack`` stops it."""
    metrics = PipelineMetrics(CollectorRegistry())
    journal = await stack.enter_async_context(
        Journal.open(directory / "collector.sqlite", sync="normal", max_bytes=journal_bytes, observer=metrics)
    )
    dead_letters = DeadLetters(metrics)
    collector = build_collector(
        Settings(_env_file=None, **settings),  # type: ignore[call-arg]  # pydantic-settings' own argument
        journal=journal,
        deployment=Deployment(SHARDS, b"k" * 32),
        metrics=metrics,
        dead_letters=dead_letters,
    )
    app = FastAPI()
    app.include_router(router(collector))
    url = await stack.enter_async_context(serving(app))
    service = Service(journal, metrics, dead_letters, url)
    stack.push_async_callback(service.http.aclose)
    return service
