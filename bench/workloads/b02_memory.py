"""B2: resident memory of a connection, by a fresh process without any and with ten thousand.

What counts is the process that holds the sockets, and of pages that several processes map its share (PSS). The kernel's
own memory for a socket is the same for everybody and in none of the figures.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from bench.results import Asked, Figure
from bench.stage import BenchError, Stage, Workload
from bench.workloads.contestants import connected, contestant, told_versions

_LET_GO = 2.0
"""Seconds in which a process may give back what connecting took."""


async def run(stage: Stage) -> None:
    count = stage.scaled(10_000, 200)
    for round_, name in stage.turns():
        async with AsyncExitStack() as stack:
            server = contestant(stage, name)
            stack.push_async_callback(server.stop)
            try:
                await server.start()
            except BenchError as error:
                stage.miss(name, str(error))
                continue
            told_versions(stage, {name: server})
            await stage.rest(server.settle)
            empty = server.memory()
            clients = await connected(stage, stack, server, count)
            await stage.rest(_LET_GO)
            full = server.memory()
            await clients.close()
            await stage.rest(server.settle)
            stage.record(name, round_, each=(full - empty) / count / 1024, empty=empty / 2**20, full=full / 2**20)


WORKLOAD = Workload(
    id="B2",
    title="memory: resident bytes of a connection at 10,000",
    contestants=("pulsetrail", "fastapi", "ws", "nchan"),
    figures=(
        Figure("each", "a connection", "KiB", "lower"),
        Figure("empty", "with none", "MiB", "lower"),
        Figure("full", "with all", "MiB", "lower"),
    ),
    asked=(Asked("each", 16), Asked("each", 0.55, "fastapi")),
    run=run,
)
