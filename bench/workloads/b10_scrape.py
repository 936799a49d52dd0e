"""B10: whether Prometheus, asking for ``/metrics`` once a second, holds up ten thousand connections.

Seen from outside: a few more clients, in a process of their own, send a probe every 2.5 ms, and the slowest round trip
is the longest time for which the event loop did something else. Seen from inside: the product's own histogram of how
late its event loop runs a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext

from bench.results import Asked, Figure
from bench.servers import Pulsetrail
from bench.stage import Stage, Workload
from bench.workloads.contestants import connected, started

_PROBERS = 5
"""A client may send 100 messages a second."""
_PROBES_PER_SECOND = 400
_SNAPSHOT_SECONDS = 2.5


async def run(stage: Stage) -> None:
    count, seconds = stage.scaled(10_000, 200), stage.scaled(10, 2)
    async with AsyncExitStack() as stack:
        servers = await started(stage, stack, shared={"pulsetrail-unscraped": "pulsetrail"})
        server = servers["pulsetrail"]
        assert isinstance(server, Pulsetrail)  # noqa: S101 - that is whose name it is
        await connected(stage, stack, server, count)
        prober = await connected(stage, stack, server, _PROBERS)
        for round_, name in stage.turns():
            await stage.rest(_SNAPSHOT_SECONDS)
            before, cpu = await server.lag(), server.cpu()
            async with _scraped(server) if name == "pulsetrail" else nullcontext():
                trips = await prober.probe(seconds * _PROBES_PER_SECOND, 1 / _PROBES_PER_SECOND)
            cpu = server.cpu() - cpu
            await stage.rest(_SNAPSHOT_SECONDS)
            stage.record(
                name,
                round_,
                worst=trips.worst * 1e3,
                p99=trips.p99 * 1e3,
                lag=highest(before, await server.lag()) * 1e3,
                cpu=cpu / seconds * 100,
            )


def highest(before: dict[float, float], after: dict[float, float]) -> float:
    """The least bound of a histogram under which all its new samples lie; both by upper bound, cumulative."""
    new = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    total = max(new.values(), default=0.0)
    return min((bound for bound, count in new.items() if count >= total), default=0.0)


@asynccontextmanager
async def _scraped(server: Pulsetrail) -> AsyncIterator[None]:
    """``/metrics`` is asked for once a second meanwhile."""

    async def scrape() -> None:
        while True:
            await server.scrape()
            await asyncio.sleep(1)

    scraping = asyncio.create_task(scrape())
    try:
        yield
    finally:
        scraping.cancel()
        await asyncio.wait([scraping])
    if not scraping.cancelled():
        scraping.result()


WORKLOAD = Workload(
    id="B10",
    title="scrape: /metrics once a second with 10,000 connections",
    contestants=("pulsetrail", "pulsetrail-unscraped"),
    figures=(
        Figure("worst", "slowest round trip", "ms", "lower"),
        Figure("p99", "p99 of round trips", "ms", "lower"),
        Figure("lag", "loop lag at most (its own histogram)", "ms", "lower"),
        Figure("cpu", "server's share of a core", "%", "lower"),
    ),
    asked=(Asked("worst", 5),),
    run=run,
)
