"""B4: the broadcast of B3 while one client in a hundred never reads.

The clients that never read have small receive buffers and the segments of an Ethernet, so that the server notices. Its
own limit (``PULSETRAIL_SEND_BUFFER_BYTES``) is 64 KiB here instead of 1 MiB, which keeps a broadcast short. The 4,950
others are the same connections in both contestants, and the delivery times are theirs.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

from bench.generator import Clients, Received
from bench.results import Asked, Figure
from bench.servers import Pulsetrail
from bench.stage import Stage, Workload
from bench.workloads.b03_broadcast import SIZE
from bench.workloads.contestants import connected, started

BUFFER = 64 * 1024
_HEALTHY, _OTHERS = 1, 2
_RECEIVE_BUFFER = 4096
_SHIP_SECONDS = 30.0


async def run(stage: Stage) -> None:
    count, messages = stage.scaled(5000, 100), stage.scaled(400, 400)
    slow = count // 100
    async with AsyncExitStack() as stack:
        servers = await started(
            stage, stack, shared={"pulsetrail-all-read": "pulsetrail"}, PULSETRAIL_SEND_BUFFER_BYTES=str(BUFFER)
        )
        server = servers["pulsetrail"]
        assert isinstance(server, Pulsetrail)  # noqa: S101 - that is whose name it is
        clients = await connected(stage, stack, server, count - slow)
        ended = 0
        for round_, name in stage.turns():
            reading = name == "pulsetrail-all-read"
            await clients.open_all(
                server.address,
                slow,
                welcome=True,
                group=_OTHERS,
                receive_buffer=0 if reading else _RECEIVE_BUFFER,
            )
            if not reading:
                await clients.stop_reading(_OTHERS)
            await stage.rest(server.settle)
            empty = server.memory()
            received, most = await _broadcast(server, clients, messages)
            await clients.close(_OTHERS)
            wanted = messages * (count - slow)
            if received.messages != wanted:
                stage.refuse(name, round_, f"{received.messages:,} of {wanted:,} messages arrived")
                continue
            stage.record(
                name,
                round_,
                p99=received.p99 * 1e3,
                rate=wanted / received.seconds,
                grew=(most - empty) / 2**20,
            )
            if not reading:
                found = await _ended(server, at_least=ended + slow)
                stage.record(name, round_, ended=(found - ended) / slow * 100)
                ended = found
            await stage.rest(server.settle)


async def _broadcast(server: Pulsetrail, clients: Clients, messages: int) -> tuple[Received, int]:
    """What the healthy received, and the most memory that the server had on the way."""
    await clients.expect(messages, _HEALTHY)
    publishing = asyncio.create_task(server.publish(messages, SIZE))
    receiving = asyncio.create_task(clients.received(_HEALTHY))
    most = 0
    while not receiving.done():
        most = max(most, server.memory())
        await asyncio.wait([receiving], timeout=0.2)
    await publishing
    return receiving.result(), most


async def _ended(server: Pulsetrail, at_least: int = 0) -> int:
    """How many connections the log says ended as ``slow_consumer``, waiting for ``at_least`` so many to be shipped."""
    until = time.monotonic() + _SHIP_SECONDS
    while True:
        events = await server.command("tail", "--no-follow", "-n", "10000", "--type", "connection.closed")
        found = len([event for event in events if event["reason"] == "slow_consumer"])
        if found >= at_least or time.monotonic() > until:
            return found
        await asyncio.sleep(0.5)


WORKLOAD = Workload(
    id="B4",
    title="slow readers: B3 while 1 % never read",
    contestants=("pulsetrail", "pulsetrail-all-read"),
    figures=(
        Figure("p99", "p99 of delivery", "ms", "lower"),
        Figure("rate", "delivered", "messages/s"),
        Figure("grew", "memory grew", "MiB", "lower"),
        Figure("ended", "ended as slow_consumer", "%"),
    ),
    asked=(
        Asked("p99", 1.2, "pulsetrail-all-read"),
        # Fifty buffers of 64 KiB are 3 MiB; the rest is for what a broadcast needs anyhow.
        Asked("grew", 12),
        Asked("ended", 100),
    ),
    run=run,
)
