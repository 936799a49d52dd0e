"""An event is in the log exactly once, whatever happens to the connection to Postgres in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from time import monotonic
from uuid import UUID

import asyncpg
import pytest
from log_events import a_batch, an_event, everything
from postgres_proxy import PostgresProxy

from pulsetrail.errors import LogUnavailable
from pulsetrail.events import Event
from pulsetrail.identity import new_id
from pulsetrail.log import Cursor
from pulsetrail.log.postgres import PostgresLog

PRODUCER = UUID(int=1)


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(database_url).running() as proxy:
        yield proxy


@pytest.fixture
async def log(proxy: PostgresProxy) -> AsyncIterator[PostgresLog]:
    """A log behind the proxy, with little patience."""
    log = await PostgresLog.connect(proxy.url, application_name="test", connect_timeout=0.5, deadline=1.0)
    yield log
    await log.close()


async def append_until_answered(log: PostgresLog, first_seq: int, events: list[Event]) -> None:
    """Send one batch as the shipper does."""
    while True:
        try:
            await log.append(a_batch(PRODUCER, first_seq, events))
        except LogUnavailable:
            continue
        return


async def test_a_connection_cut_between_the_commit_and_the_answer_loses_and_doubles_nothing(
    log: PostgresLog, proxy: PostgresProxy, postgres_log: PostgresLog
) -> None:
    await log.append(a_batch(PRODUCER, 1, [an_event()]))
    events = [an_event() for _ in range(20)]
    proxy.cut_reply_with = b"appended"  # the status, which only an append has
    with pytest.raises(LogUnavailable):
        await log.append(a_batch(PRODUCER, 2, events))
    while await postgres_log.lane(0, PRODUCER) < 21:
        await asyncio.sleep(0.01)  # the commit goes on without us
    appended = await log.append(a_batch(PRODUCER, 2, events))
    assert (appended.stored, appended.duplicates) == (0, 20), "the first sending was committed"
    assert len(await everything(log)) == 21


async def test_connections_cut_at_random_lose_and_double_nothing(
    log: PostgresLog, proxy: PostgresProxy, postgres_log: PostgresLog
) -> None:
    chance = random.Random(7)
    events = [an_event() for _ in range(400)]
    cuts = 0
    for start in range(0, len(events), 10):
        if chance.random() < 0.4:
            asyncio.get_running_loop().call_later(chance.random() * 0.005, proxy.reset)
            cuts += 1
        await append_until_answered(log, start + 1, events[start : start + 10])
    assert cuts > 5
    # Read past the proxy: its last cut may still be to come.
    assert [event.event_id for event in await everything(postgres_log)] == [event.event_id for event in events]


async def test_a_batch_that_is_sent_by_two_at_once_is_stored_once(database_url: str) -> None:
    batch = a_batch(PRODUCER, 1, [an_event() for _ in range(500)])
    logs = [await PostgresLog.connect(database_url, application_name="test") for _ in range(4)]
    answers = await asyncio.gather(*(log.append(batch) for log in logs))
    assert sorted(answer.stored for answer in answers) == [0, 0, 0, 500]
    assert {answer.last_seq for answer in answers} == {500}
    for log in logs:
        await log.close()


async def test_a_killed_backend_is_a_database_that_is_not_available_and_then_is(
    log: PostgresLog, database_url: str
) -> None:
    admin = await asyncpg.connect(database_url)
    killed = await admin.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'test' AND datname = current_database()"
    )
    await admin.close()
    assert killed
    await append_until_answered(log, 1, [an_event()])
    assert len(await everything(log)) == 1


async def test_a_frozen_server_costs_the_deadline_and_no_more(log: PostgresLog, proxy: PostgresProxy) -> None:
    await log.append(a_batch(PRODUCER, 1, [an_event()]))
    proxy.freeze()
    started = monotonic()
    with pytest.raises(LogUnavailable):  # on the connection that there is
        await log.append(a_batch(PRODUCER, 2, [an_event()]))
    with pytest.raises(LogUnavailable):  # on a new one
        await log.head(0)
    calls = [log.lane(0, new_id()) for _ in range(12)]  # more than there are connections
    assert all(isinstance(answer, LogUnavailable) for answer in await asyncio.gather(*calls, return_exceptions=True))
    assert monotonic() - started < 4.0
    proxy.thaw()
    await append_until_answered(log, 2, [an_event()])
    assert (await log.head(0)).position == 2


async def test_a_server_that_is_not_there_is_said_in_a_sentence() -> None:
    with pytest.raises(LogUnavailable, match=r"The database is not available: .+\.$"):
        await PostgresLog.connect("postgresql://nobody@127.0.0.1:1/nothing", application_name="test")


async def test_a_cancelled_call_leaves_the_log_usable(log: PostgresLog) -> None:
    for _ in range(10):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await log.append(a_batch(PRODUCER, 1, [an_event() for _ in range(200)]))
    assert (await log.head(0)).position in (0, 200)


async def test_what_is_locked_too_long_is_not_available(log: PostgresLog, database_url: str) -> None:
    blocker = await asyncpg.connect(database_url)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT FROM log_shard WHERE shard = 0 FOR UPDATE")
    with pytest.raises(LogUnavailable):
        await log.append(a_batch(PRODUCER, 1, [an_event()]))
    await log.append(a_batch(PRODUCER, 1, [an_event(shard=1)], shard=1))
    await transaction.rollback()
    await blocker.close()
    assert (await log.append(a_batch(PRODUCER, 1, [an_event()]))).head.position == 1
    assert (await log.read_after(0, Cursor(), 10))[0].position == 1
