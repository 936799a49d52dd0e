"""What the tests of the shipper share: events, a running shipper, and a log that fails on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID

from pulsetrail.events import Event, RecordedEvent, encode_payload, now_us
from pulsetrail.identity import ClientIdentity, new_id
from pulsetrail.journal import Journal
from pulsetrail.log import Appended, Batch, Cursor, Log
from pulsetrail.log.memory import MemoryLog
from pulsetrail.shipper import Shipper

SHARDS = 4


def opened(shard: int = 0) -> Event:
    """A ``connection.opened`` of a new connection."""
    connection = new_id()
    now = now_us()
    return Event(
        event_id=new_id(),
        event_type="connection.opened",
        schema_version=1,
        source="gateway",
        occurred_at=now,
        received_at=now,
        shard=shard,
        connection_id=connection,
        connection_seq=1,
        node_id="quiet-otter-0",
        node_epoch=1_700_000_000_000_000,
        client_ref=connection,
        page_id="page-1",
        payload=encode_payload({}),
    )


async def record(journal: Journal, count: int, shards: int = SHARDS) -> list[Event]:
    """``count`` durable events, spread over the shards."""
    events = [opened(number % shards) for number in range(count)]
    for event in events:
        journal.record(event)
    await journal.durable()
    return events


@asynccontextmanager
async def shipping(journal: Journal, log: Log, compare_seconds: float = 60.0) -> AsyncIterator[Shipper]:
    """A shipper at work."""
    shipper = Shipper(journal, log, compare_seconds=compare_seconds)
    running = asyncio.create_task(shipper.run())
    try:
        yield shipper
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def everything_in(log: Log) -> list[RecordedEvent]:
    """All events of all shards."""
    found: list[RecordedEvent] = []
    for shard in range(SHARDS):
        cursor = Cursor()
        while batch := await log.read_after(shard, cursor, 1_000):
            found.extend(batch)
            cursor = Cursor(batch[-1].position, batch[-1].recorded_at)
    return found


Fault = Callable[[Batch], Awaitable[None]]


class FaultyLog(MemoryLog):
    """The log behind a network that may fail before an append, or between its commit and the answer."""

    def __init__(self) -> None:
        super().__init__(shards=SHARDS, key=b"k" * 32)
        self.before: Fault | None = None
        self.after: Fault | None = None
        self.batches: list[Batch] = []
        self.remembered: list[ClientIdentity] = []
        self.in_flight = [0] * SHARDS
        self.most_in_flight = [0] * SHARDS

    def lose_everything(self) -> None:
        """As after a failover to a standby that had nothing yet."""
        super().__init__(shards=SHARDS, key=b"k" * 32)

    async def append(self, batch: Batch) -> Appended:
        self.batches.append(batch)
        self.in_flight[batch.shard] += 1
        self.most_in_flight[batch.shard] = max(self.most_in_flight[batch.shard], self.in_flight[batch.shard])
        try:
            if self.before is not None:
                await self.before(batch)
            appended = await super().append(batch)
            if self.after is not None:
                await self.after(batch)
            return appended
        finally:
            self.in_flight[batch.shard] -= 1

    async def remember(self, identities: Sequence[ClientIdentity]) -> None:
        self.remembered.extend(identities)
        await super().remember(identities)


async def ship(journal: Journal, log: Log) -> None:
    """Ship everything."""
    async with shipping(journal, log) as shipper:
        assert await shipper.drain(30), f"not shipped in time: {shipper.state}"


def ids(events: Sequence[Event]) -> set[UUID]:
    return {event.event_id for event in events}
