"""B1: ten thousand quiet connections, a heartbeat every 30 seconds each.

Both servers hold theirs at the same time, and each window of 30 seconds is a round: whatever the machine does in a
window, it does to both. The clients answer every heartbeat.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from functools import partial

from bench.generator import Clients, Usage
from bench.results import Asked, Figure
from bench.servers import Server
from bench.stage import Stage, Workload
from bench.workloads.contestants import connected, started

_ALONE = 10.0
"""Seconds of looking at the servers before anybody connects."""


async def run(stage: Stage) -> None:
    count, seconds = stage.scaled(10_000, 100), stage.scaled(30, 1)
    async with AsyncExitStack() as stack:
        servers = await started(stage, stack, heartbeat=float(seconds))
        if "fastapi" in servers:
            servers["fastapi"].path = "/heartbeat"
        clients: dict[str, Clients] = {}
        await stage.rest(partial(_without_clients, stage, servers))
        for name, server in servers.items():
            stage.say(f"connecting {count:,} clients to {name}")
            clients[name] = await connected(stage, stack, server, count)
        # The first heartbeat of each connection is not counted: connecting left its traces.
        stage.say(f"{stage.rounds} windows of {seconds} s, after one that does not count")
        await stage.rest(float(seconds))
        before = await _look(servers, clients)
        for round_ in range(stage.rounds):
            await asyncio.sleep(seconds)
            after = await _look(servers, clients)
            for name in servers:
                _record(stage, name, round_, before[name], after[name], count, seconds)
            before = after


async def _without_clients(stage: Stage, servers: dict[str, Server]) -> None:
    """Say what the servers do when nobody is there: that part of their CPU does not come from connections."""
    for server in servers.values():
        await server.settle()
    before = {name: (server.cpu(), server.cpu_of_everything()) for name, server in servers.items()}
    await asyncio.sleep(_ALONE)
    for name, server in servers.items():
        cpu, of_all = server.cpu() - before[name][0], server.cpu_of_everything() - before[name][1]
        stage.note(f"{name} without connections: {cpu / _ALONE:.2%} of a core, all of it {of_all / _ALONE:.2%}.")


_Look = tuple[float, float, float, Usage]
"""The time, CPU seconds of the server and of all of it, what the clients did."""


async def _look(servers: dict[str, Server], clients: dict[str, Clients]) -> dict[str, _Look]:
    return {
        name: (time.monotonic(), server.cpu(), server.cpu_of_everything(), await clients[name].usage())
        for name, server in servers.items()
    }


def _record(stage: Stage, name: str, round_: int, before: _Look, after: _Look, count: int, interval: float) -> None:
    seconds = after[0] - before[0]
    beats = after[3].heartbeats - before[3].heartbeats
    due = count * seconds / interval
    if not 0.9 * due <= beats <= 1.1 * due:
        stage.refuse(name, round_, f"{beats:,} heartbeats were answered where {due:,.0f} were due")
        return
    cpu, of_all = after[1] - before[1], after[2] - before[2]
    stage.record(name, round_, cpu=cpu / beats * 1e6, all=of_all / beats * 1e6, share=cpu / seconds * 100)


WORKLOAD = Workload(
    id="B1",
    title="idle: 10,000 connections, heartbeats at 30 s",
    contestants=("pulsetrail", "fastapi"),
    figures=(
        Figure("cpu", "server CPU", "µs/heartbeat", "lower"),
        Figure("all", "CPU of all of it", "µs/heartbeat", "lower"),
        Figure("share", "server's share of a core", "%", "lower"),
    ),
    asked=(Asked("cpu", 0.4, "fastapi"),),
    run=run,
)
