"""From the journal to the log: everything, in order, once, whatever fails in between."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from shipping import SHARDS, FaultyLog, everything_in, ids, opened, record, ship, shipping

from pulsetrail.errors import ClockSkew, LogUnavailable
from pulsetrail.events import EventsDropped, decode_payload
from pulsetrail.identity import ClientIdentity
from pulsetrail.journal import Journal
from pulsetrail.log import Batch, Log
from pulsetrail.shipper import BATCH_ROWS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway-0.sqlite"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with Journal.open(path) as journal:
        yield journal


@pytest.fixture
def log() -> FaultyLog:
    return FaultyLog()


def lose_rows(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


async def shipped_by_shard(log: Log) -> dict[int, list[object]]:
    by_shard: dict[int, list[object]] = {shard: [] for shard in range(SHARDS)}
    for recorded in await everything_in(log):
        by_shard[recorded.event.shard].append(recorded.event.event_id)
    return by_shard


async def test_everything_arrives_in_the_order_of_its_recording(journal: Journal, log: FaultyLog) -> None:
    events = await record(journal, 2_500)
    await ship(journal, log)
    expected = {shard: [e.event_id for e in events if e.shard == shard] for shard in range(SHARDS)}
    assert await shipped_by_shard(log) == expected
    assert journal.unshipped == 0


async def test_a_journal_shipped_twice_is_in_the_log_once(path: Path, log: FaultyLog) -> None:
    async with Journal.open(path) as journal:
        await record(journal, 300)
        await ship(journal, log)
        await record(journal, 300)
        await ship(journal, log)
        for lane in await journal.lanes():
            await journal.rewind(lane.shard, lane.producer_id, 0)
        await ship(journal, log)
    counts = Counter(recorded.event.event_id for recorded in await everything_in(log))
    assert len(counts) == 600
    assert set(counts.values()) == {1}


async def test_a_shard_has_one_batch_in_flight_and_the_shards_go_side_by_side(journal: Journal, log: FaultyLog) -> None:
    together = 0

    async def slow(batch: Batch) -> None:
        nonlocal together
        together = max(together, sum(log.in_flight))
        await asyncio.sleep(0.005)

    log.before = slow
    await record(journal, 6_000)
    await ship(journal, log)
    assert log.most_in_flight == [1] * SHARDS
    assert together == SHARDS


async def test_an_event_of_a_quiet_time_arrives_promptly(journal: Journal, log: FaultyLog) -> None:
    arrived = asyncio.Event()

    async def note(batch: Batch) -> None:
        arrived.set()

    async with shipping(journal, log) as shipper:
        assert await shipper.drain(30)
        await record(journal, 1)
        assert await shipper.drain(30)
        log.after = note
        delays = []
        for _ in range(9):
            arrived.clear()
            await asyncio.sleep(0.05)
            started = time.monotonic()
            await record(journal, 1)
            await arrived.wait()
            delays.append(time.monotonic() - started)
    assert sorted(delays)[len(delays) // 2] < 0.05


async def test_a_busy_time_travels_in_large_batches(journal: Journal, log: FaultyLog) -> None:
    await record(journal, 8_000)
    await ship(journal, log)
    assert {len(batch.events) for batch in log.batches} == {BATCH_ROWS}


async def test_while_the_log_is_away_events_wait_and_then_all_arrive(journal: Journal, log: FaultyLog) -> None:
    away = True

    async def refuse(batch: Batch) -> None:
        if away:
            raise LogUnavailable("it is stopped")

    log.before = refuse
    async with shipping(journal, log) as shipper:
        events = await record(journal, 500)
        assert not await shipper.drain(0.3)
        assert shipper.state.behind == 500
        assert shipper.state.error is not None
        assert "it is stopped" in shipper.state.error
        away = False
        assert await shipper.drain(30)
        assert shipper.state.error is None
    assert {recorded.event.event_id for recorded in await everything_in(log)} == ids(events)


async def test_an_answer_lost_after_the_commit_doubles_nothing(journal: Journal, log: FaultyLog) -> None:
    rng = random.Random(7)

    async def cut(batch: Batch) -> None:
        if rng.random() < 0.5:
            raise LogUnavailable("the connection was cut between commit and answer")

    log.after = cut
    async with shipping(journal, log) as shipper:
        events = []
        for _ in range(20):
            events += await record(journal, 40)
            await asyncio.sleep(0.01)
        assert await shipper.drain(60)
    counts = Counter(recorded.event.event_id for recorded in await everything_in(log))
    assert counts.keys() == ids(events)
    assert set(counts.values()) == {1}


async def test_rows_that_a_failover_lost_are_sent_again_without_new_traffic(journal: Journal, log: FaultyLog) -> None:
    events = await record(journal, 400)
    await ship(journal, log)
    restored = FaultyLog()  # the standby that took over knows nothing of the newest commits
    async with shipping(journal, restored, compare_seconds=0.05) as shipper:
        assert await shipper.drain(30)
    assert {recorded.event.event_id for recorded in await everything_in(restored)} == ids(events)


async def test_a_log_that_lost_its_newest_commits_between_two_batches_gets_them_again(
    journal: Journal, log: FaultyLog
) -> None:
    async with shipping(journal, log) as shipper:
        events = await record(journal, 400)
        assert await shipper.drain(30)
        log.lose_everything()
        events += await record(journal, 40)
        assert await shipper.drain(30)
    stored = await shipped_by_shard(log)
    assert stored == {shard: [e.event_id for e in events if e.shard == shard] for shard in range(SHARDS)}


@pytest.mark.parametrize(
    ("lost", "condition"), [(3, "seq BETWEEN 4 AND 6"), (2, "seq <= 2"), (4, "seq > 6")], ids=["middle", "start", "end"]
)
async def test_rows_that_are_gone_for_good_become_one_counted_event(
    path: Path, log: FaultyLog, lost: int, condition: str
) -> None:
    async with Journal.open(path) as journal:
        events = await record(journal, 10, shards=1)
    lose_rows(path, f"DELETE FROM entry WHERE {condition}")  # noqa: S608 - the test's own condition
    for _ in range(2):  # a restart does not count them again
        async with Journal.open(path) as journal:
            await ship(journal, log)
            newer = await record(journal, 1, shards=1)
            await ship(journal, log)
            events += newer
    stored = [recorded.event for recorded in await everything_in(log)]
    told = [decode_payload(event) for event in stored if event.event_type == "events.dropped"]
    assert told == [EventsDropped(event_class="unknown", cause="hole", count=lost)]
    assert len(stored) == len(events) - lost + 1


async def test_when_the_clocks_part_events_wait_and_the_state_says_so(journal: Journal, log: FaultyLog) -> None:
    parted = True

    async def refuse(batch: Batch) -> None:
        if parted:
            raise ClockSkew(400.0)

    log.before = refuse
    async with shipping(journal, log) as shipper:
        await record(journal, 5, shards=1)
        assert not await shipper.drain(0.2)
        assert shipper.state.clock_skew_seconds == 400.0
        parted = False
        assert await shipper.drain(30)
        assert shipper.state.clock_skew_seconds is None


async def test_a_batch_that_is_too_long_for_a_slow_log_gets_through_in_parts(journal: Journal, log: FaultyLog) -> None:
    async def slow(batch: Batch) -> None:
        if len(batch.events) > 30:
            raise LogUnavailable("it takes too long")

    log.before = slow
    await record(journal, 1_000, shards=1)
    async with shipping(journal, log) as shipper:
        assert await shipper.drain(60)


async def test_an_identity_is_in_the_log_before_the_events_of_its_client(journal: Journal, log: FaultyLog) -> None:
    event = opened()
    assert event.client_ref is not None
    identity = ClientIdentity(event.client_ref, "client-1")
    known_before: list[bool] = []

    async def look(batch: Batch) -> None:
        known_before.append(identity in log.remembered)

    log.before = look
    async with shipping(journal, log) as shipper:
        journal.record(event, identity)
        assert await shipper.drain(30)
    assert known_before == [True]
    assert log.remembered == [identity]


async def test_what_an_older_process_left_goes_first(path: Path, log: FaultyLog) -> None:
    async with Journal.open(path) as journal:
        older = await record(journal, 1_500, shards=1)
    async with Journal.open(path) as journal:
        newer = await record(journal, 100, shards=1)
        await ship(journal, log)
    assert (await shipped_by_shard(log))[0] == [event.event_id for event in older + newer]
