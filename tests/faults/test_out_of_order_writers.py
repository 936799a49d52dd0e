"""F3: writers commit out of order, roll back and hold transactions open, and no reader of the log skips an event.

The faults are planted in the database, at the last moment before each commit: the product's own appends dawdle there
with everything locked that they lock, or fail there. What each writer was told is its record of what has to be seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID

import asyncpg
import pytest
from recorded_lives import all_rows, minted_in_turn, random_lives
from sizes import FULL

from pulsetrail.errors import LogUnavailable
from pulsetrail.events import Event, now_us
from pulsetrail.identity import new_id
from pulsetrail.log import Batch, Cursor, Log
from pulsetrail.log.postgres import PostgresLog
from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.builds import rebuild
from pulsetrail.projections.runner import Projector, connect_pool
from pulsetrail.verify import verify

SHARDS = 4
WRITERS, LIVES = (24, 200) if FULL else (8, 4)
"""Producers, and connections that each tells the life of."""
HELD_SECONDS = 2.0 if FULL else 0.3
ROLLED_BACK = 0.25
"""Share of the commits that fail."""

DAWDLE = f"""
CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_sleep(random() * 0.006);
    IF random() < {ROLLED_BACK} THEN
        RAISE EXCEPTION 'no commit today' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER dawdle AFTER UPDATE ON producer_lane DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (new.last_seq > 0) EXECUTE FUNCTION dawdle();
"""

HELD = """
SELECT status FROM append_events($1::smallint, $2, 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, false,
    ARRAY[0], ARRAY[0], '{NULL}', ARRAY[$3::uuid], '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{1}', '{heartbeat.missed}',
    '{gateway}', '{NULL}', '{NULL}', '{NULL}', ARRAY['{}'], NULL)
"""


class Writers:
    """Producers that append their events in small batches and send each again until it is acknowledged."""

    def __init__(self, url: str, count: int, lives: int) -> None:
        self.acknowledged: dict[int, set[UUID]] = {shard: set() for shard in range(SHARDS)}
        self.refused = 0
        self._url = url
        self._count = count
        self._lives = lives

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._write(number))

    async def _write(self, number: int) -> None:
        chance = Random(number)
        shard = number % SHARDS
        lives = random_lives(500 + number, self._lives, shard=shard)
        events = minted_in_turn(event for life in lives for event in life.events)
        producer, sent = new_id(), 0
        log = await PostgresLog.connect(self._url, application_name="writer", size=1)
        while sent < len(events):
            batch = events[sent : sent + chance.randint(1, 5)]
            await self._append(log, Batch(shard, producer, sent + 1, batch, now_us()))
            sent += len(batch)
        await log.close()

    async def _append(self, log: Log, batch: Batch) -> None:
        while True:
            try:
                await log.append(batch)
            except LogUnavailable:
                self.refused += 1
                continue
            self.acknowledged[batch.shard] |= {event.event_id for event in batch.events}
            return


class Reader:
    """Follows the tail of one shard by what it has seen last, as every reader of the log does."""

    def __init__(self, log: Log, shard: int) -> None:
        self.seen: list[Event] = []
        self._log = log
        self._shard = shard
        self._cursor = Cursor()

    async def read(self) -> None:
        for recorded in await self._log.read_after(self._shard, self._cursor, 1_000):
            self.seen.append(recorded.event)
            self._cursor = Cursor(recorded.position, recorded.recorded_at)

    async def follow(self) -> None:
        while True:
            await self.read()
            await asyncio.sleep(0.001)


@asynccontextmanager
async def beside(*work: asyncio.Task[None]) -> AsyncIterator[None]:
    """Run tasks beside the block; one that fails is the block's failure."""
    try:
        yield
    finally:
        for task in work:
            if not task.done():
                task.cancel()
        ended = await asyncio.gather(*work, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome


async def hold(url: str, acknowledged: dict[int, set[UUID]], seconds: float) -> None:
    """Append one event to a shard, do nothing for a while, and commit; in each shard in turn."""
    connection = await asyncpg.connect(url)
    for shard in range(SHARDS):
        event_id = new_id()
        async with connection.transaction():
            # What was planted is not for this one.
            await connection.execute("SET LOCAL session_replication_role = replica")
            assert await connection.fetchval(HELD, shard, new_id(), event_id) == "appended"
            await asyncio.sleep(seconds)
        acknowledged[shard].add(event_id)
    await connection.close()


@pytest.mark.timeout(900)
async def test_no_reader_skips_an_event_whatever_the_order_of_the_commits(
    database_url: str, postgres_log: PostgresLog
) -> None:
    owner = await asyncpg.connect(database_url)
    await owner.execute(DAWDLE)
    bystander = await asyncpg.connect(database_url)
    open_all_the_time = bystander.transaction()
    await open_all_the_time.start()
    await bystander.execute("CREATE TABLE bystander (nothing integer)")  # a write: it has a transaction id

    writing = Writers(database_url, WRITERS, LIVES)
    readers = [Reader(postgres_log, shard) for shard in range(SHARDS)]
    async with await connect_pool(database_url) as pool:
        projector = Projector(pool, batch_events=50)
        following = [asyncio.create_task(reader.follow()) for reader in readers]
        async with beside(asyncio.create_task(projector.run()), *following):
            await asyncio.gather(writing.run(), hold(database_url, writing.acknowledged, HELD_SECONDS))
        for reader in readers:
            await reader.read()
        await projector.catch_up()
        assert writing.refused > 20, "hardly a commit failed, so nothing was tested"
        for shard, reader in enumerate(readers):
            counts = Counter(event.event_id for event in reader.seen)
            skipped = writing.acknowledged[shard] - counts.keys()
            assert not skipped, f"shard {shard}: the reader skipped {len(skipped)} acknowledged events"
            assert not counts.keys() - writing.acknowledged[shard], f"shard {shard} has events that nobody was told of"
            assert set(counts.values()) == {1}, f"shard {shard}: the reader saw an event twice"
        rebuilt = {name: await rebuild(owner, name) for name in PROJECTIONS}
        await projector.catch_up()
        assert await all_rows(owner, rebuilt) == await all_rows(owner), "the projector skipped events"
    await open_all_the_time.rollback()
    assert (await verify(owner, grace_seconds=3600)).findings == []
    for connection in (owner, bystander):
        await connection.close()
