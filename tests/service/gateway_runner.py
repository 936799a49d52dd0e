"""A real gateway in the test's own loop: real sockets, a real journal, and the in-memory log."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect

from pulsetrail.events import Event
from pulsetrail.journal import Journal
from pulsetrail.log import Cursor, Deployment
from pulsetrail.log.memory import MemoryLog
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.settings import Settings
from pulsetrail_service.app import Gateway, create_app
from pulsetrail_service.server import gateway_server
from pulsetrail_service.updates import LocalUpdates, UpdateSource

SHARDS = 4
KEY = bytes(32)


class KeptLog(MemoryLog):
    """The gateway closes its log at the end; the test reads it afterwards."""

    async def close(self) -> None:
        pass


@dataclass
class Running:
    """A gateway that listens, and what it has put on record."""

    gateway: Gateway
    log: MemoryLog
    port: int
    stop: Callable[[], None]

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws/updates"

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, query: str = "", **options: Any) -> connect:
        """A stock client that pings nobody by itself."""
        options.setdefault("ping_interval", None)
        return connect(f"{self.url}?{query}", **options)

    async def events(self, connection: str | None = None) -> list[Event]:
        """What is in the log by now, in the order of each shard."""
        found: list[Event] = []
        for shard in range(SHARDS):
            found += [recorded.event for recorded in await self.log.read_after(shard, Cursor(), 100_000)]
        return [event for event in found if connection is None or str(event.connection_id) == connection]

    async def event(self, event_type: str, connection: str | None = None) -> tuple[Event, dict[str, Any]]:
        """The first event of a type, once it is there, and its payload."""
        async with asyncio.timeout(20):
            while True:
                for event in await self.events(connection):
                    if event.event_type == event_type:
                        return event, msgspec.json.decode(event.payload)
                await asyncio.sleep(0.02)

    async def end_of(self, connection: str) -> tuple[Event, dict[str, Any]]:
        """The terminal event of a connection, once it is there."""
        return await self.event("connection.closed", connection)


Start = Callable[..., AbstractAsyncContextManager[Running]]


def starter(directory: Path) -> Start:
    """Starts gateways with their files in ``directory``; settings by name."""

    @asynccontextmanager
    async def start(
        *,
        log: MemoryLog | None = None,
        source: UpdateSource | None = None,
        routers: Sequence[APIRouter] = (),
        **settings: Any,
    ) -> AsyncIterator[Running]:
        chosen = Settings(data_dir=directory, drain_seconds=0.2, **{"live_figures_interval": 0, **settings})
        log = log or KeptLog(shards=SHARDS, key=KEY)
        metrics = PipelineMetrics(CollectorRegistry())
        part = Gateway(
            chosen,
            node_id="node-0",
            worker=0,
            deployment=Deployment(SHARDS, KEY),
            journal=Journal.open(
                directory / "journals" / "gateway-0.sqlite", max_bytes=chosen.journal_max_bytes, observer=metrics
            ),
            log=log,
            leases=log,
            source=source or LocalUpdates(chosen.updates_ring),
            metrics=metrics,
            snapshots=directory / "metrics",
            ticket_key="t" * 32,
        )

        async def targets() -> list[str]:
            return ["127.0.0.1:1"]

        app = create_app(part, targets=targets, routers=routers)
        server = gateway_server(app, part)
        sock = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            async with asyncio.timeout(10):
                while not server.started:
                    if serving.done():
                        serving.result()
                    await asyncio.sleep(0.01)

            def stop() -> None:
                server.should_exit = True

            yield Running(part, log, sock.getsockname()[1], stop)
        finally:
            server.should_exit = True
            await asyncio.wait_for(serving, 20)
            sock.close()

    return start


async def receive(client: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a type; others are passed over."""
    async with asyncio.timeout(20):
        while True:
            message: dict[str, Any] = msgspec.json.decode(await client.recv())
            if message["type"] == kind:
                return message
