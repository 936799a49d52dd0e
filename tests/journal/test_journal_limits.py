"""F7: a journal that is full or whose disk refuses; what is shed, what is kept, and that all of it is counted."""

from __future__ import annotations

import asyncio
import resource
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from journal_events import closed, dropped_counts, make_event, opened, take_all

from pulsetrail.errors import JournalFailed, JournalFull
from pulsetrail.events import Event
from pulsetrail.journal import Journal
from pulsetrail.journal.shedding import DropTally, dropped_event, shed_at
from pulsetrail.observer import NullObserver

CAP = 1 << 20


class Drops(NullObserver):
    """Counts what the observer is told of drops."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()

    def events_dropped(self, event_class: str, reason: str, count: int) -> None:
        self.counts[event_class, reason] += count


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway-0.sqlite"


@pytest.fixture
def drops() -> Drops:
    return Drops()


@pytest.fixture
async def journal(path: Path, drops: Drops) -> AsyncIterator[Journal]:
    async with Journal.open(path, max_bytes=CAP, observer=drops) as journal:
        yield journal


def on_disk(path: Path) -> int:
    return sum(
        found.stat().st_size for suffix in ("", "-wal") if (found := path.with_name(path.name + suffix)).exists()
    )


async def fill_to(journal: Journal, level: float) -> list[Event]:
    """Record lifecycle events until the journal is ``level`` full."""
    events = []
    while journal.fill < level:
        events.append(opened(filler=1_000))
        journal.record(events[-1])
        await journal.durable()
    return events


async def until(condition: str, journal: Journal) -> None:
    """Wait for the journal's own housekeeping to make an attribute true."""
    async with asyncio.timeout(20):
        while not getattr(journal, condition):
            await asyncio.sleep(0.02)


def test_detail_is_shed_before_accounts_and_lifecycle_never() -> None:
    assert [sorted(shed_at(fill)) for fill in (0.0, 0.69, 0.7, 0.8, 1.0)] == [
        [],
        [],
        ["detail"],
        ["account", "detail"],
        ["account", "detail"],
    ]


def test_a_drop_is_told_at_most_once_a_second_per_class_and_cause() -> None:
    tally = DropTally()
    detail, account = make_event("page.hidden"), make_event("socket.opened")
    tally.add(detail, "journal_full")
    tally.add(account, "journal_full")
    assert dropped_counts(tally.due(10.0)) == {("detail", "journal_full"): 1, ("account", "journal_full"): 1}
    for _ in range(5):
        tally.add(detail, "journal_full")
    assert tally.due(10.5) == []
    assert dropped_counts(tally.due(11.0)) == {("detail", "journal_full"): 5}
    assert not tally.pending


def test_what_is_said_of_a_drop_names_the_node_of_the_lost_event() -> None:
    lost = make_event("page.hidden", shard=3)
    event = dropped_event("detail", "journal_full", 4, shard=lost.shard, sample=lost)
    assert (event.shard, event.node_id, event.node_epoch) == (3, lost.node_id, lost.node_epoch)
    assert (event.source, event.reason) == ("collector", "journal_full")


async def test_nothing_is_shed_while_what_fills_the_journal_is_in_the_log_already(
    journal: Journal, drops: Drops
) -> None:
    """With rows in several shards: their lanes are marked and purged apart."""
    async with asyncio.timeout(60):
        for number in range(3_000):
            for shard in range(4):
                journal.record(make_event("page.hidden", shard=shard))
            await journal.durable()
            if number % 50 == 0:
                for lane in await journal.lanes():
                    await journal.mark_shipped(lane.shard, lane.producer_id, lane.last_seq)
                await asyncio.sleep(0.05)  # rows are marked as shipped once a second
    assert drops.counts == {}
    assert journal.fill < 0.7


async def test_when_it_runs_full_detail_goes_first_then_accounts_and_every_one_is_counted(
    journal: Journal, drops: Drops
) -> None:
    kept: list[Event] = []

    async def offer() -> None:
        kept.extend((opened(), make_event("socket.opened"), make_event("page.hidden")))
        for event in kept[-3:]:
            journal.record(event)
        await journal.durable()

    await offer()
    await fill_to(journal, 0.71)
    assert journal.accepts_telemetry
    await offer()
    await fill_to(journal, 0.81)
    assert not journal.accepts_telemetry
    assert journal.accepts_handshakes
    await offer()
    await fill_to(journal, 0.905)
    assert not journal.accepts_handshakes

    await asyncio.sleep(1.0)  # what was shed is told at most once a second
    journal.record(opened())
    await journal.durable()
    stored = await take_all(journal)
    missing = {event.event_id for event in kept} - {event.event_id for event in stored}
    assert missing == {kept[index].event_id for index in (5, 7, 8)}, "not the least valuable events were shed"
    assert drops.counts == {("detail", "journal_full"): 2, ("account", "journal_full"): 1}
    assert dropped_counts(stored) == drops.counts


async def test_sequences_have_no_holes_when_events_are_shed(journal: Journal) -> None:
    await fill_to(journal, 0.75)
    for number in range(50):
        journal.record(make_event("page.hidden" if number % 2 else "node.started", shard=number % 4))
    await journal.durable()
    await take_all(journal)  # asserts that no lane has a hole
    assert sum(lane.last_seq for lane in await journal.lanes() if lane.shard) < 50


async def test_at_its_cap_it_refuses_openings_and_keeps_ends_until_there_is_room(
    journal: Journal, path: Path, drops: Drops
) -> None:
    openings: list[Event] = []
    refused: list[Event] = []
    for filler in (1_000, 0):
        with pytest.raises(JournalFull) as refusal:
            for _ in range(10_000):
                openings.append(opened(filler=filler))
                journal.record(openings[-1])
                await journal.durable()
        assert refusal.value.max_bytes == CAP
        refused.append(openings.pop())
    end = closed(openings[0])
    journal.record(end)
    with pytest.raises(JournalFull):
        await journal.durable()
    assert on_disk(path) <= CAP
    assert not journal.accepts_handshakes

    stored = await take_all(journal)
    await until("accepts_handshakes", journal)
    stored += await take_all(journal)
    assert end in stored, "the end of a connection was lost"
    assert not any(event in stored for event in refused)
    assert {event.event_id for event in openings} <= {event.event_id for event in stored}
    assert not drops.counts


async def test_a_group_that_does_not_fit_is_refused_before_the_disk_is_touched(journal: Journal, path: Path) -> None:
    for _ in range(2_000):
        journal.record(opened(filler=1_000))
    with pytest.raises(JournalFull):
        await journal.durable()
    assert on_disk(path) <= CAP


async def test_a_full_journal_leaves_room_for_a_restart_to_write_all_ends(path: Path) -> None:
    cap = 4 * CAP
    async with Journal.open(path, max_bytes=cap) as journal:
        for _ in range(100):
            journal.record(opened())
        with pytest.raises(JournalFull):
            for number in range(100_000):
                journal.record(make_event("node.started", filler=1_000))
                if number % 10 == 0:
                    await journal.durable()
    async with Journal.open(path, max_bytes=cap) as journal:
        assert await journal.recover() == 100
        assert on_disk(path) <= cap


async def test_where_even_the_ends_of_a_restart_do_not_fit_they_are_written_when_shipping_makes_room(
    path: Path,
) -> None:
    async with Journal.open(path, max_bytes=4 * CAP) as journal:
        for _ in range(2_000):
            journal.record(opened(filler=400))
    async with Journal.open(path, max_bytes=CAP) as journal:  # the cap was lowered meanwhile
        assert await journal.recover() == 0
        stored = await take_all(journal)
        async with asyncio.timeout(30):
            while await journal.open_connections():
                await asyncio.sleep(0.02)
        stored += await take_all(journal)
    ends = Counter(event.connection_id for event in stored if event.event_type == "connection.lost")
    assert ends == Counter(event.connection_id for event in stored if event.event_type == "connection.opened")


async def test_shipped_rows_make_room_before_anything_is_shed(journal: Journal, drops: Drops) -> None:
    for _ in range(3):
        await fill_to(journal, 0.55)
        await take_all(journal)
        async with asyncio.timeout(20):
            while journal.fill >= 0.5:
                await asyncio.sleep(0.02)
    assert not drops.counts


async def test_a_reader_that_stays_open_cannot_make_the_log_grow_past_the_cap(journal: Journal, path: Path) -> None:
    journal.record(opened())
    await journal.durable()
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entry").fetchone()
        with pytest.raises(JournalFull):
            for _ in range(10_000):
                journal.record(opened(filler=1_000))
                await journal.durable()
                await take_all(journal)
        assert on_disk(path) <= CAP * 1.1
    await until("accepts_handshakes", journal)


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """The kernel refuses this process to make files longer than ``size``: writing fails with EFBIG."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


async def test_when_the_disk_refuses_waiters_are_told_and_ends_are_written_later(path: Path, drops: Drops) -> None:
    first = opened()
    async with Journal.open(path, observer=drops) as journal:
        journal.record(first)
        await journal.durable()
        with files_limited_to(path.with_name(path.name + "-wal").stat().st_size):
            refused, end, detail = opened(), closed(first), make_event("latency.sampled")
            for event in (refused, end, detail):
                journal.record(event)
            with pytest.raises(JournalFailed):
                await journal.durable()
            assert journal.failing is not None
            assert not journal.accepts_handshakes
        await until("accepts_handshakes", journal)
        stored = await take_all(journal)
        assert await journal.open_connections() == 0
    assert [event for event in stored if event.event_type != "events.dropped"] == [first, end]
    assert drops.counts == {("detail", "journal_failed"): 1}
    assert dropped_counts(stored) == drops.counts
