"""B3: messages of 500 bytes to 5,000 clients, back to back.

Time runs from the making of the first message until the last client has the last one. Each server publishes as it
would: Pulsetrail by ``POST /v1/updates``, nchan by its publisher location, FastAPI and ``ws`` by a loop over their
clients. ``pulsetrail`` is one publisher that publishes while the last update is being written: one update a write, what
the others do too. ``pulsetrail-joined`` is 64 publishers that do not wait: updates that come while others are written
share a write.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TypeGuard

from bench.generator import Clients, Received, bottleneck
from bench.results import Asked, Figure
from bench.servers import Pulsetrail, RawC, Server
from bench.stage import Size, Stage, Workload
from bench.workloads.contestants import connected, started

SIZE = 500
PUBLISHERS = 64


async def run(stage: Stage) -> None:
    connections, count = stage.scaled(5000, 100), stage.scaled(100, 10)
    async with AsyncExitStack() as stack:
        servers = await started(stage, stack, shared={"pulsetrail-joined": "pulsetrail"})
        clients = {name: await connected(stage, stack, server, connections) for name, server in servers.items()}
        await _ceiling(stage, stack, connections, count)
        writes = _Writes(stage)
        for round_, name in stage.turns():
            shared = "pulsetrail" if name == "pulsetrail-joined" else name
            server = servers[shared]
            messages = count * 10 if name == "pulsetrail-joined" else count
            await writes.before(server, round_)
            await _broadcast(stage, server, clients[shared], name, round_, messages, connections)
            await writes.after(server, name, round_, messages)
            await stage.rest(server.settle)


async def publish(server: Server, name: str, messages: int) -> None:
    """Publish as the contestant of this name does."""
    if name == "pulsetrail-joined":
        assert isinstance(server, Pulsetrail)  # noqa: S101 - that is whose name it is
        await server.publish_joined(messages, SIZE, publishers=PUBLISHERS)
    else:
        await server.publish(messages, SIZE)


async def _broadcast(
    stage: Stage, server: Server, clients: Clients, name: str, round_: int, messages: int, connections: int
) -> None:
    load, cpu = (await clients.usage()).cpu, server.cpu()
    await clients.expect(messages)
    publishing = asyncio.create_task(publish(server, name, messages))
    received: Received = await clients.received()
    await publishing
    cpu, load = server.cpu() - cpu, (await clients.usage()).cpu - load
    wanted = messages * connections
    if received.messages != wanted:
        stage.refuse(name, round_, f"{received.messages:,} of {wanted:,} messages arrived")
    elif limit := bottleneck(load, cpu, received.seconds):
        stage.refuse(name, round_, limit)
    else:
        stage.record(
            name,
            round_,
            rate=wanted / received.seconds,
            cpu=cpu / wanted * 1e6,
            p99=received.p99 * 1e3,
        )


async def _ceiling(stage: Stage, stack: AsyncExitStack, connections: int, count: int) -> None:
    floor = RawC(stage.scratch)
    await floor.start()
    stack.push_async_callback(floor.stop)
    clients = await connected(stage, stack, floor, connections)
    rates = []
    for _ in range(3):
        await clients.expect(count * 10)
        await floor.publish(count * 10, SIZE, join=PUBLISHERS)
        received = await clients.received()
        rates.append(received.messages / received.seconds)
    await clients.close()
    stage.note(f"The load generator's ceiling, {PUBLISHERS} messages in one send(): {max(rates):,.0f} messages/s.")


class _Writes:
    """How many updates Pulsetrail joined into one write, from its own metrics, in the first round."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._before = 0.0

    def _counts(self, server: Server, round_: int) -> TypeGuard[Pulsetrail]:
        return round_ == 0 and self._stage.size is Size.FULL and isinstance(server, Pulsetrail)

    async def _count(self, server: Pulsetrail) -> float:
        await asyncio.sleep(2.5)  # its metrics are a snapshot of a second ago
        return (await server.metrics()).get("pulsetrail_broadcast_seconds_count", 0.0)

    async def before(self, server: Server, round_: int) -> None:
        if self._counts(server, round_):
            self._before = await self._count(server)

    async def after(self, server: Server, name: str, round_: int, messages: int) -> None:
        if self._counts(server, round_):
            writes = await self._count(server) - self._before
            self._stage.note(f"{name}: {messages:,} updates in {writes:,.0f} writes to each client.")


WORKLOAD = Workload(
    id="B3",
    title="broadcast: 500 bytes to 5,000 clients, back to back",
    contestants=("pulsetrail", "pulsetrail-joined", "raw-python", "raw-c", "ws", "nchan", "fastapi"),
    figures=(
        Figure("rate", "delivered", "messages/s"),
        Figure("cpu", "server CPU", "µs/message", "lower"),
        Figure("p99", "p99 of delivery", "ms", "lower"),
    ),
    asked=(
        Asked("rate", 0.6, "raw-python"),
        Asked("rate", 1.0, "ws"),
        Asked("rate", 0.85, "nchan"),
        Asked("rate", 1.7, "fastapi"),
    ),
    run=run,
)
