"""Waiting for the log is prompt while the bell can be heard, and never stuck when it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import asyncpg
import pytest
from log_events import a_batch, an_event
from postgres_proxy import PostgresProxy

from pulsetrail.identity import new_id
from pulsetrail.log.doorbell import CHANNEL, POLL, Doorbell
from pulsetrail.log.postgres import PostgresLog


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[PostgresProxy]:
    async with PostgresProxy(database_url).running() as proxy:
        yield proxy


@pytest.fixture
async def reader(proxy: PostgresProxy) -> AsyncIterator[PostgresLog]:
    """A log of another process, which hears the bell."""
    log = await PostgresLog.connect(proxy.url, application_name="reader", connect_timeout=0.5, deadline=1.0)
    await until_heard(log)
    yield log
    await log.close()


async def until_heard(log: PostgresLog) -> None:
    async with asyncio.timeout(10.0):
        while not log.hears_the_bell:
            await log.wait(0.05)


async def test_an_append_elsewhere_ends_the_wait(reader: PostgresLog, postgres_log: PostgresLog) -> None:
    waiting = asyncio.create_task(reader.wait(30.0))
    async with asyncio.timeout(10.0):
        producer, seq = new_id(), 0
        while not waiting.done():
            seq += 1
            await postgres_log.append(a_batch(producer, seq, [an_event()]))
            await asyncio.wait([waiting], timeout=0.2)


async def test_a_wait_that_hears_the_bell_does_not_poll(reader: PostgresLog) -> None:
    started = monotonic()
    await reader.wait(4 * POLL)
    assert monotonic() - started > 3 * POLL


async def test_waiting_falls_back_to_polling_when_the_bell_is_cut_off(
    reader: PostgresLog, proxy: PostgresProxy
) -> None:
    proxy.freeze()
    proxy.reset()
    async with asyncio.timeout(10.0):
        while reader.hears_the_bell:
            await asyncio.sleep(0.01)
        started = monotonic()
        await reader.wait(30.0)
    assert monotonic() - started < 3 * POLL
    proxy.thaw()
    await until_heard(reader)


async def test_many_appends_ring_no_more_than_every_75_milliseconds_and_the_last_is_heard(
    database_url: str, postgres_log: PostgresLog
) -> None:
    heard: list[float] = []
    listener: Any = await asyncpg.connect(database_url)
    await listener.add_listener(CHANNEL, lambda *_: heard.append(monotonic()))
    producer, started = new_id(), monotonic()
    for seq in range(1, 101):
        await postgres_log.append(a_batch(producer, seq, [an_event()]))
    finished = monotonic()
    async with asyncio.timeout(5.0):
        while not heard or heard[-1] < finished:
            await asyncio.sleep(0.01)
    assert len(heard) <= (heard[-1] - started) / 0.05 + 2
    await listener.close()


async def test_a_bell_that_does_not_hear_itself_is_not_trusted(database_url: str) -> None:
    """As behind a pooler that gives each statement another connection."""

    class Deaf:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        async def add_listener(self, *_: object) -> None:
            pass

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

    async def send() -> None:
        pass

    async def connect() -> Any:
        return Deaf(await asyncpg.connect(database_url))

    bell = Doorbell(send=send, connect=connect, self_test=0.01, patience=0.05)
    for _ in range(3):
        started = monotonic()
        await bell.wait(30.0)
        assert monotonic() - started < 3 * POLL
    assert not bell.listening
    await bell.close()
