"""B5: ten thousand clients connect as fast as they come.

A client is connected when it has its 101 and, at Pulsetrail, its welcome: by then its ``connection.opened`` is on
record with fsync. The others record nothing.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from bench.generator import Clients, bottleneck
from bench.results import Asked, Figure
from bench.servers import Pulsetrail, RawC, Server
from bench.stage import Stage, Workload
from bench.workloads.contestants import started

WINDOW = 1000
"""Connections under way at a time: as many as a server's backlog takes by far, and enough to keep it busy."""


async def run(stage: Stage) -> None:
    count = stage.scaled(10_000, 200)
    async with AsyncExitStack() as stack:
        servers = await started(stage, stack)
        clients = await Clients.start(count, stage.say)
        stack.push_async_callback(clients.stop)
        await _ceiling(stage, stack, clients, count)
        opened = 0
        for round_, name in stage.turns():
            server = servers[name]
            await _storm(stage, server, clients, name, round_, count)
            opened += count
            await clients.close()
            await stage.rest(server.settle)
        if isinstance(ours := servers.get("pulsetrail"), Pulsetrail):
            await _all_on_record(stage, ours, count)


async def _ceiling(stage: Stage, stack: AsyncExitStack, clients: Clients, count: int) -> None:
    floor = RawC(stage.scratch)
    await floor.start()
    stack.push_async_callback(floor.stop)
    rates = []
    for _ in range(3):
        opened = await clients.open(floor.address, count, window=WINDOW, welcome=False)
        rates.append(opened.clients / opened.seconds)
        await clients.close()
        await stage.rest(floor.settle)
    stage.note(f"The load generator's ceiling, against a C server that answers with a constant: {max(rates):,.0f}/s.")


async def _storm(stage: Stage, server: Server, clients: Clients, name: str, round_: int, count: int) -> None:
    load, cpu, all_of_it = (await clients.usage()).cpu, server.cpu(), server.cpu_of_everything()
    opened = await clients.open(server.address, count, window=WINDOW, welcome=server.welcomes)
    cpu = server.cpu() - cpu
    load = (await clients.usage()).cpu - load
    if opened.failed:
        stage.refuse(name, round_, f"{opened.failed} of {count} did not connect: {opened.why}")
        return
    limit = bottleneck(load, cpu, opened.seconds)
    if limit:
        stage.refuse(name, round_, limit)
        return
    await stage.rest(server.settle)
    stage.record(
        name,
        round_,
        rate=count / opened.seconds,
        cpu=cpu / count * 1e6,
        all=(server.cpu_of_everything() - all_of_it) / count * 1e6,
        p99=opened.p99 * 1e3,
    )


async def _all_on_record(stage: Stage, server: Pulsetrail, count: int) -> None:
    """What was acknowledged must be in the log: a fast server that forgets has no figure."""
    until = time.monotonic() + 60
    recorded = 0.0
    while time.monotonic() < until:
        recorded = (await server.metrics()).get("ws_updates_connections_opened_total", 0.0)
        if recorded >= count * stage.rounds:
            stage.note(f"The log holds every one of Pulsetrail's {recorded:,.0f} connections.")
            return
        await asyncio.sleep(0.5)
    for round_ in range(stage.rounds):
        stage.refuse("pulsetrail", round_, f"the log holds {recorded:,.0f} of {count * stage.rounds:,} connections")


WORKLOAD = Workload(
    id="B5",
    title="storm: 10,000 connects as fast as they come",
    contestants=("pulsetrail", "fastapi", "ws", "nchan"),
    figures=(
        Figure("rate", "connected", "clients/s"),
        Figure("cpu", "server CPU", "µs/client", "lower"),
        Figure("all", "CPU of all of it", "µs/client", "lower"),
        Figure("p99", "p99", "ms", "lower"),
    ),
    asked=(Asked("rate", 1.2, "fastapi"),),
    run=run,
)
