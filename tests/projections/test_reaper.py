"""One end: for the connections of a node that is gone, once; for nobody's because the database was away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from recorded_lives import EPOCH, Life, append

from pulsetrail.close_codes import Reason
from pulsetrail.log import Log
from pulsetrail.projections.reaper import SQL, Contact, Reaper
from pulsetrail.projections.runner import Projector

LEASE = 0.4
EVENTS = (
    "SELECT event_type, reason, source, node_id, node_epoch, connection_seq FROM events "
    "WHERE connection_id = $1 ORDER BY position"
)


def at(seconds: float) -> datetime:
    return datetime(2026, 11, 25, tzinfo=UTC) + timedelta(seconds=seconds)


def test_nobody_is_judged_before_a_full_lease_of_contact() -> None:
    contact = Contact(10)
    for second in range(10):
        contact.seen(second, at(second))
        assert contact.judge_until() is None
    contact.seen(10, at(10))
    assert contact.judge_until() == at(15)


@pytest.mark.parametrize(
    ("what", "monotonic", "database"),
    [
        ("a silence", 21, 21),
        ("a step forward of the database's clock", 11, 3611),
        ("a step back of the database's clock", 11, -3600),
    ],
)
def test_contact_begins_again_after(what: str, monotonic: float, database: float) -> None:
    contact = Contact(10)
    for second in range(11):
        contact.seen(second, at(second))
    assert contact.judge_until() is not None
    contact.seen(monotonic, at(database))
    assert contact.judge_until() is None, what


def test_contact_begins_again_after_an_error() -> None:
    contact = Contact(1)
    contact.seen(0, at(0))
    contact.seen(0.5, at(0.5))
    contact.seen(1, at(1))
    assert contact.judge_until() is not None
    contact.lost()
    contact.seen(1.1, at(1.1))
    assert contact.judge_until() is None


async def fence(reaper: Reaper, *, looks: int = 12) -> list[tuple[str, int]]:
    """Look until the contact is a full lease old and what has run out is fenced."""
    fenced = []
    for _ in range(looks):
        fenced += await reaper.look()
        await asyncio.sleep(LEASE / 8)
    return fenced


async def test_the_connections_of_a_node_that_is_gone_end_as_server_lost(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection, projector: Projector
) -> None:
    lives = [Life(f"client {n}", shard=n % 4).open() for n in range(6)]
    ended = Life("ended").open().close(5)
    elsewhere = Life("elsewhere", node="heron-1").open()
    await postgres_log.renew_lease("otter-0", EPOCH, 0.01)
    await postgres_log.renew_lease("heron-1", EPOCH, 60)
    await append(postgres_log, [event for life in (*lives, ended, elsewhere) for event in life.events])
    reaper = Reaper(pool, lease_seconds=LEASE)
    assert await fence(reaper) == [("otter-0", EPOCH)]
    assert await reaper.reap() == 0, "nothing is folded yet, so what is open is not known"
    await projector.catch_up()
    assert await reaper.reap() == 6
    assert await reaper.reap() == 0
    await projector.catch_up()
    assert await reaper.reap() == 0
    for life in lives:
        lost = (await owner.fetch(EVENTS, life.connection_id))[1:]
        assert [tuple(row) for row in lost] == [("connection.lost", "server_lost", "reaper", "otter-0", EPOCH, None)]
    open_now = await owner.fetch("SELECT connection_id FROM connections WHERE is_open")
    assert [row[0] for row in open_now] == [elsewhere.connection_id]
    assert (
        await owner.fetchrow("SELECT initiator, phase, ended_source FROM connections WHERE reason = 'server_lost'")
    )[:] == ("server", "open", "reaper")
    assert await owner.fetch("SELECT * FROM source_gaps") == []


async def test_two_reapers_at_once_end_each_connection_once(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection, projector: Projector
) -> None:
    lives = [Life(f"client {n}", shard=n % 4).open() for n in range(40)]
    await postgres_log.renew_lease("otter-0", EPOCH, 0.01)
    await append(postgres_log, [life.events[0] for life in lives])
    reapers = [Reaper(pool, lease_seconds=LEASE) for _ in range(2)]
    fenced = await asyncio.gather(*(fence(reaper) for reaper in reapers))
    assert [epoch for found in fenced for epoch in found] == [("otter-0", EPOCH)]
    await projector.catch_up()
    ended = await asyncio.gather(*(reaper.reap() for reaper in (*reapers, *reapers)))
    assert sum(ended) == 40
    ends = await owner.fetch(
        "SELECT connection_id, count(*) FROM events WHERE event_type = 'connection.lost' GROUP BY connection_id"
    )
    assert {row[1] for row in ends} == {1}
    assert len(ends) == 40


async def test_an_opening_that_arrives_after_the_fencing_is_ended_too(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection, projector: Projector
) -> None:
    await postgres_log.renew_lease("otter-0", EPOCH, 0.01)
    early, late = Life("early").open(), Life("late").open()
    lane = await append(postgres_log, early.events)
    reaper = Reaper(pool, lease_seconds=LEASE)
    assert await fence(reaper)
    await projector.catch_up()
    assert await reaper.reap() == 1
    await append(postgres_log, late.events, producer=lane, first_seq=2)
    await projector.catch_up()
    assert await reaper.reap() == 1
    assert [row["event_type"] for row in await owner.fetch(EVENTS, late.connection_id)] == [
        "connection.opened",
        "connection.lost",
    ]


async def test_a_node_frozen_past_its_lease_reports_its_ends_late(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection, projector: Projector
) -> None:
    life = Life().open().close(30, Reason.PEER_RESET)
    await postgres_log.renew_lease("otter-0", EPOCH, 0.01)
    lane = await append(postgres_log, life.events[:1])
    reaper = Reaper(pool, lease_seconds=LEASE)
    assert await fence(reaper)
    await projector.catch_up()
    assert await reaper.reap() == 1
    assert (await postgres_log.renew_lease("otter-0", EPOCH, 60)).fenced
    await append(postgres_log, life.events[1:], producer=lane, first_seq=2)
    await projector.catch_up()
    assert await reaper.reap() == 0
    assert [row["event_type"] for row in await owner.fetch(EVENTS, life.connection_id)] == [
        "connection.opened",
        "connection.lost",
        "connection.end_reported_late",
    ]
    row = await owner.fetchrow("SELECT reason, late_reason, terminal_events FROM connections")
    assert tuple(row) == ("server_lost", "peer_reset", 1)
    assert await owner.fetch("SELECT * FROM source_gaps") == []


async def test_an_outage_longer_than_a_lease_expires_nobody_who_then_renews(
    postgres_log: Log, database_url: str, pool: asyncpg.Pool, owner: asyncpg.Connection, projector: Projector
) -> None:
    life = Life().open()
    await append(postgres_log, life.events)
    await projector.catch_up()
    lease = 1.0
    reaper = Reaper(pool, lease_seconds=lease)
    name = await owner.fetchval("SELECT current_database()")
    reached = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name = 'pulsetrail projector'"
    allow = "UPDATE pg_database SET datallowconn = $2 WHERE datname = $1"
    task = asyncio.create_task(reaper.run())
    try:
        await postgres_log.renew_lease("otter-0", EPOCH, 60)
        await asyncio.sleep(lease * 1.5)
        await owner.execute(allow, name, False)
        # The lease as the outage leaves it: nobody could renew it for longer than it lasts.
        await owner.execute("UPDATE node_lease SET expires_at = clock_timestamp() + interval '10 ms'")
        await owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
            name,
        )
        await asyncio.sleep(lease * 1.5)
        await owner.execute(allow, name, True)
        async with asyncio.timeout(lease):
            while not await owner.fetchval(reached, name):
                await asyncio.sleep(0.005)
        await owner.execute("SELECT renew_lease('otter-0', $1, 60)", EPOCH)
        await asyncio.sleep(lease * 1.5)
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await owner.fetchval("SELECT fenced_at FROM node_lease") is None
    assert [row["event_type"] for row in await owner.fetch(EVENTS, life.connection_id)] == ["connection.opened"]


async def test_a_judgement_that_a_frozen_database_executes_late_judges_nobody(
    postgres_log: Log, owner: asyncpg.Connection
) -> None:
    await postgres_log.renew_lease("otter-0", EPOCH, 0.01)
    await asyncio.sleep(0.02)
    long_ago = await owner.fetchval("SELECT clock_timestamp() - interval '1 second'")
    assert await owner.fetch(SQL["fence"], long_ago) == []
    soon = await owner.fetchval("SELECT clock_timestamp() + interval '10 seconds'")
    assert len(await owner.fetch(SQL["fence"], soon)) == 1
