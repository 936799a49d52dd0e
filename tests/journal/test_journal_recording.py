"""What the journal keeps, and when it says so."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from journal_events import SHARDS, closed, make_event, opened, take_all

from pulsetrail.errors import JournalFailed, JournalInUse
from pulsetrail.events import ConnectionLost, decode_payload
from pulsetrail.identity import ClientIdentity, new_id
from pulsetrail.journal import Journal
from pulsetrail.observer import NullObserver


class Commits(NullObserver):
    """Keeps the size of every commit."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def journal_committed(self, rows: int, seconds: float) -> None:
        self.rows.append(rows)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journals" / "gateway-0.sqlite"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with Journal.open(path) as journal:
        yield journal


def rows_in(path: Path) -> int:
    """Rows that another process would find in the file now."""
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("SELECT count(*) FROM entry").fetchone()[0])


async def test_an_event_is_in_the_file_when_durable_returns(journal: Journal, path: Path) -> None:
    journal.record(opened())
    assert rows_in(path) == 0, "recording alone must not touch the disk"
    await journal.durable()
    assert rows_in(path) == 1


async def test_everything_recorded_in_one_turn_of_the_loop_is_one_commit(path: Path) -> None:
    commits = Commits()
    async with Journal.open(path, observer=commits) as journal:

        async def connect() -> None:
            journal.record(opened(shard=1))
            await journal.durable()

        await asyncio.gather(*(connect() for _ in range(500)))
    assert commits.rows == [500]


async def test_what_is_recorded_while_a_commit_runs_is_the_next_commit(path: Path) -> None:
    commits = Commits()
    async with Journal.open(path, observer=commits) as journal:
        journal.record(opened())
        first = asyncio.create_task(journal.durable())
        await asyncio.sleep(0)  # the first turn ends here and its group is handed over
        await asyncio.sleep(0)
        for _ in range(10):
            journal.record(opened())
        await journal.durable()
        await first
    assert commits.rows == [1, 10]


async def test_a_waiter_that_is_cancelled_takes_nobody_with_it(journal: Journal) -> None:
    journal.record(opened())
    impatient = asyncio.create_task(journal.durable())
    patient = asyncio.create_task(journal.durable())
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert impatient.cancelled() or impatient.cancelling()
    assert len(await take_all(journal)) == 1


async def test_durable_returns_at_once_when_nothing_was_recorded(journal: Journal) -> None:
    async with asyncio.timeout(5):
        await journal.durable()


async def test_a_closed_journal_promises_nothing(path: Path) -> None:
    journal = Journal.open(path)
    await journal.close()
    journal.record(opened())
    with pytest.raises(JournalFailed):
        await journal.durable()


async def test_closing_commits_what_was_recorded(path: Path) -> None:
    events = [opened(), opened(shard=3)]
    async with Journal.open(path) as journal:
        for event in events:
            journal.record(event)
    async with Journal.open(path) as journal:
        assert await take_all(journal) == events


async def test_sequences_count_per_shard_from_one_and_anew_for_each_process(path: Path) -> None:
    for _ in range(2):
        async with Journal.open(path) as journal:
            for number in range(8):
                journal.record(opened(shard=number % SHARDS))
            await journal.durable()
    async with Journal.open(path) as journal:
        lanes = await journal.lanes()
        assert [lane.last_seq for lane in lanes] == [2] * 8
        assert len({lane.producer_id for lane in lanes}) == 2
        assert journal.producer_id not in {lane.producer_id for lane in lanes}


async def test_the_rows_of_an_older_process_come_first(path: Path) -> None:
    older, newer = opened(), opened()
    async with Journal.open(path) as journal:
        journal.record(older)
    async with Journal.open(path) as journal:
        journal.record(newer)
        await journal.durable()
        assert await take_all(journal) == [older, newer]


async def test_a_journal_has_one_owner(journal: Journal, path: Path) -> None:
    with pytest.raises(JournalInUse):
        Journal.open(path)
    code = f"from pathlib import Path; from pulsetrail.journal import Journal; Journal.open(Path({str(path)!r}))"
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stderr=asyncio.subprocess.PIPE)
    _, complaint = await other.communicate()
    assert b"JournalInUse" in complaint


async def test_a_restart_ends_what_was_left_open_exactly_once(path: Path) -> None:
    ended, left = opened(), opened(shard=2)
    async with Journal.open(path) as journal:
        journal.record(ended)
        journal.record(left)
        journal.record(make_event("heartbeat.missed", shard=2, connection=left.connection_id, connection_seq=7))
        journal.record(closed(ended))
    async with Journal.open(path) as journal:
        assert await journal.recover() == 1
        assert await journal.recover() == 0
        assert await journal.open_connections() == 0
        (lost,) = [event for event in await take_all(journal) if event.event_type == "connection.lost"]
    assert lost.connection_id == left.connection_id
    assert (lost.connection_seq, lost.reason, lost.shard) == (8, "server_crashed", 2)
    assert (lost.node_id, lost.node_epoch, lost.client_ref) == (left.node_id, left.node_epoch, left.client_ref)
    payload = decode_payload(lost)
    assert isinstance(payload, ConnectionLost)
    assert payload.opened_at == left.occurred_at
    async with Journal.open(path) as journal:
        assert await journal.recover() == 0


async def test_a_connection_lost_in_a_crash_ended_when_its_process_last_gave_a_sign_of_life(path: Path) -> None:
    async with Journal.open(path) as journal:
        journal.record(opened())
        await journal.durable()
        journal.record(make_event("node.started", shard=1))
        await journal.durable()
        last_sign = make_event("node.started").occurred_at
    async with Journal.open(path) as journal:
        await journal.recover()
        (lost,) = [event for event in await take_all(journal) if event.event_type == "connection.lost"]
    assert lost.occurred_at <= last_sign <= lost.received_at


async def test_connections_of_this_process_are_not_recovered(journal: Journal) -> None:
    journal.record(opened())
    await journal.durable()
    assert await journal.recover() == 0
    assert await journal.open_connections() == 1


async def test_what_a_client_says_of_a_connection_neither_opens_nor_ends_it(journal: Journal) -> None:
    first = opened()
    journal.record(first)
    journal.record(make_event("socket.closed", connection=first.connection_id, source="client"))
    await journal.durable()
    assert await journal.open_connections() == 1


async def test_an_identity_is_kept_until_it_is_shipped_and_recorded_once(journal: Journal) -> None:
    identity = ClientIdentity(new_id(), "client-1")
    for _ in range(3):
        journal.record(opened(), identity)
        await journal.durable()
    assert await journal.identities(10) == [identity]
    await journal.mark_identities([identity])
    journal.record(opened(), identity)
    await journal.durable()
    assert not journal.has_identities

    named = identity._replace(subject="ada")
    journal.record(opened(), named)
    await journal.durable()
    assert await journal.identities(10) == [named]


async def test_after_a_rewind_rows_and_identities_are_pending_again(journal: Journal) -> None:
    identity = ClientIdentity(new_id(), "client-1")
    events = [opened() for _ in range(5)]
    for event in events:
        journal.record(event, identity)
    await journal.durable()
    await journal.mark_identities([identity])
    assert await take_all(journal) == events
    await journal.rewind(0, journal.producer_id, 2)
    assert await take_all(journal) == events[2:]
    assert await journal.identities(10) == [identity]


async def test_how_far_a_lane_is_shipped_survives_a_restart(path: Path) -> None:
    async with Journal.open(path) as journal:
        journal.record(opened())
        await journal.durable()
        await take_all(journal)
    async with Journal.open(path) as journal:
        assert await take_all(journal) == []


async def test_shipped_rows_are_deleted_after_their_time_and_not_before(path: Path) -> None:
    async with Journal.open(path) as journal:
        journal.record(opened())
        await journal.durable()
        await take_all(journal)
        assert rows_in(path) == 1
        await journal.discard_shipped()
        assert rows_in(path) == 0
        assert [lane.last_seq for lane in await journal.lanes()] == [1], "numbers go on where they were"
        journal.record(opened())
        await journal.durable()
        assert [lane.last_seq for lane in await journal.lanes()] == [2]


async def test_an_event_that_cannot_be_written_down_is_counted_and_holds_nobody_up(journal: Journal) -> None:
    good, bad = opened(), make_event("node.started")
    journal.record(good)
    journal.record(msgspec.structs.replace(bad, occurred_at=2**70))
    await journal.durable()
    stored = await take_all(journal)
    assert [event.event_type for event in stored] == ["connection.opened", "events.dropped"]
