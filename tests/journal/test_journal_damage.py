"""F7: a journal file that is not what was written; it is set aside, and what can be read goes on."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from journal_events import dropped_counts, opened, take_all

from pulsetrail.events import Event
from pulsetrail.journal import Journal

EVENTS = 400


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway-0.sqlite"


async def written(path: Path) -> list[Event]:
    """A journal with many events, closed in order."""
    events = [opened(filler=400) for _ in range(EVENTS)]
    async with Journal.open(path) as journal:
        for event in events:
            journal.record(event)
    return events


def overwrite(path: Path, start: float, length: int) -> None:
    """Put garbage over a part of a file; ``start`` is a share of its size, rounded to a page."""
    offset = int(path.stat().st_size * start) // 4096 * 4096
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xa5" * length)


def replace(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def truncate(path: Path, share: float) -> None:
    """Keep the first ``share`` of a file, in whole pages."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share) // 4096 * 4096)


async def read_around_holes(journal: Journal) -> list[Event]:
    events: list[Event] = []
    while (batch := await journal.pending(0, 1_000)) is not None:
        events.extend(batch.events)
        last_seq = batch.first_seq + max(1, len(batch.events)) - 1
        await journal.mark_shipped(0, batch.producer_id, last_seq)
    return events


async def test_a_file_that_is_no_database_is_set_aside_and_replaced(path: Path) -> None:
    replace(path, b"this is not a database, " * 1_000)
    async with Journal.open(path) as journal:
        assert journal.damaged is not None
        assert journal.damaged.read_bytes().startswith(b"this is not")
        event = opened()
        journal.record(event)
        await journal.durable()
        assert await take_all(journal) == [event]
    async with Journal.open(path) as journal:
        assert journal.damaged is None


async def test_a_file_without_its_first_page_is_replaced(path: Path) -> None:
    await written(path)
    overwrite(path, 0.0, 4096)
    async with Journal.open(path) as journal:
        assert journal.damaged is not None
        assert await journal.recover() == 0


async def test_a_torn_page_costs_only_the_rows_it_held(path: Path) -> None:
    events = await written(path)
    overwrite(path, 0.5, 4096)
    async with Journal.open(path) as journal:
        assert journal.damaged is not None
        stored = await read_around_holes(journal)
    assert EVENTS - 30 <= len(stored) <= EVENTS
    assert [event for event in events if event in stored] == stored, "what was salvaged is in another order"


async def test_what_follows_a_truncation_is_lost_and_the_rest_is_kept(path: Path) -> None:
    events = await written(path)
    truncate(path, 0.75)
    async with Journal.open(path) as journal:
        assert journal.damaged is not None
        stored = await read_around_holes(journal)
    assert {event.event_id for event in stored} <= {event.event_id for event in events}


async def test_open_connections_of_a_damaged_journal_are_still_ended(path: Path) -> None:
    events = await written(path)
    overwrite(path, 0.3, 4096)
    async with Journal.open(path) as journal:
        assert journal.damaged is not None
        ended = await journal.recover()
    assert 0 < ended <= len(events)


async def test_damage_found_while_running_replaces_the_file_and_counts_what_is_gone(path: Path) -> None:
    more_than_sqlite_caches = 5_000
    async with Journal.open(path) as journal:
        for _ in range(more_than_sqlite_caches):
            journal.record(opened(filler=400))
    async with Journal.open(path) as journal:
        before = journal.producer_id
        overwrite(path, 0.0, 3_000_000)
        assert await journal.pending(0, 1_000) is None
        assert journal.damaged is not None
        assert journal.producer_id != before
        event = opened()
        journal.record(event)
        await journal.durable()
        stored = await take_all(journal)
    assert event in stored
    assert dropped_counts(stored) == {("unknown", "journal_damaged"): more_than_sqlite_caches}


async def test_a_row_that_cannot_be_decoded_is_replaced_by_an_event_that_says_so(path: Path) -> None:
    events = [opened() for _ in range(3)]
    async with Journal.open(path) as journal:
        for event in events:
            journal.record(event)
    with sqlite3.connect(path) as db:
        db.execute("UPDATE entry SET body = x'c1' WHERE seq = 2")
    db.close()
    async with Journal.open(path) as journal:
        stored = await take_all(journal)
    assert [event.event_type for event in stored] == ["connection.opened", "events.dropped", "connection.opened"]
