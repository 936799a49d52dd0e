"""A reader that follows the tail of the log skips nothing, though writers race and some of them roll back."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
from log_events import a_batch, an_event

from pulsetrail.errors import LogHole
from pulsetrail.events import Event
from pulsetrail.identity import new_id
from pulsetrail.log import Cursor
from pulsetrail.log.postgres import PostgresLog

WRITERS, ROUNDS = 8, 25

APPEND = """
SELECT status FROM append_events(0::smallint, $1, $2, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, false,
    '{0}', '{0}', '{NULL}', ARRAY[gen_random_uuid()], '{NULL}', '{NULL}',
    '{NULL}', '{NULL}', '{1}', '{heartbeat.missed}', '{gateway}',
    '{NULL}', '{NULL}', '{NULL}', ARRAY['{}'], NULL)
"""


async def race(url: str, write: Callable[[asyncpg.Connection, int], Awaitable[None]]) -> None:
    """Writers whose transactions overlap: each waits a little between its write and its commit or rollback."""

    async def writer(number: int) -> None:
        chance = random.Random(number)
        connection = await asyncpg.connect(url)
        for round_number in range(1, ROUNDS + 1):
            while True:
                transaction = connection.transaction()
                await transaction.start()
                await write(connection, round_number)
                await asyncio.sleep(chance.random() * 0.004)
                if chance.random() < 0.3:
                    await transaction.rollback()
                    continue
                await transaction.commit()
                break
        await connection.close()

    await asyncio.gather(*(writer(number) for number in range(WRITERS)))


async def follow(racing: asyncio.Task[None], read: Callable[[], Awaitable[int]]) -> int:
    """Read what is new, again and again, until the race is over; returns how many were seen."""
    seen = 0
    while True:
        over = racing.done()
        seen += await read()
        if over:
            await racing
            return seen
        await asyncio.sleep(0.001)


async def test_a_reader_at_the_tail_skips_nothing(database_url: str, postgres_log: PostgresLog) -> None:
    producers: dict[asyncpg.Connection, object] = {}

    async def write(connection: asyncpg.Connection, round_number: int) -> None:
        producer = producers.setdefault(connection, new_id())
        assert await connection.fetchval(APPEND, producer, round_number) == "appended"

    cursor = Cursor()

    async def read() -> int:
        nonlocal cursor
        rows = await postgres_log.read_after(0, cursor, 1_000)
        if rows:
            cursor = Cursor(rows[-1].position, rows[-1].recorded_at)
        return len(rows)

    assert await follow(asyncio.create_task(race(database_url, write)), read) == WRITERS * ROUNDS


async def test_a_reader_behind_a_sequence_does_skip(database_url: str) -> None:
    """The negative control: with positions from a sequence the same race loses events to the same reader."""
    reader = await asyncpg.connect(database_url)
    await reader.execute("CREATE TABLE naive (position bigserial PRIMARY KEY)")

    async def write(connection: asyncpg.Connection, _: int) -> None:
        await connection.execute("INSERT INTO naive DEFAULT VALUES")

    last = 0

    async def read() -> int:
        nonlocal last
        rows = await reader.fetch("SELECT position FROM naive WHERE position > $1 ORDER BY position", last)
        if rows:
            last = rows[-1][0]
        return len(rows)

    seen = await follow(asyncio.create_task(race(database_url, write)), read)
    assert await reader.fetchval("SELECT count(*) FROM naive") == WRITERS * ROUNDS
    await reader.close()
    assert seen < WRITERS * ROUNDS, "this race would not have found a reader that skips"


@pytest.fixture
async def five_events(postgres_log: PostgresLog) -> list[Event]:
    events = [an_event() for _ in range(5)]
    await postgres_log.append(a_batch(new_id(), 1, events))
    return events


async def test_a_hole_in_the_log_is_an_error_and_not_a_shorter_answer(
    database_url: str, postgres_log: PostgresLog, five_events: list[Event]
) -> None:
    vandal = await asyncpg.connect(database_url)
    await vandal.execute("SET session_replication_role = replica; DELETE FROM events WHERE position IN (1, 4)")
    await vandal.close()
    with pytest.raises(LogHole) as at_the_start:
        await postgres_log.read_after(0, Cursor(), 10)
    assert (at_the_start.value.expected, at_the_start.value.found) == (1, 2)
    with pytest.raises(LogHole) as in_the_middle:
        await postgres_log.read_after(0, Cursor(2, 0), 10)
    assert (in_the_middle.value.expected, in_the_middle.value.found) == (4, 5)
    assert "position 5 instead of 4" in str(in_the_middle.value)


async def test_recorded_at_does_not_go_back_when_the_clock_does(database_url: str, postgres_log: PostgresLog) -> None:
    await postgres_log.append(a_batch(new_id(), 1, [an_event()]))
    ahead = await asyncpg.connect(database_url)
    await ahead.execute("UPDATE log_shard SET head_recorded_at = head_recorded_at + interval '1 minute'")
    await ahead.close()
    before = await postgres_log.head(0)
    appended = await postgres_log.append(a_batch(new_id(), 1, [an_event()]))
    assert appended.head.recorded_at == before.recorded_at + 1
