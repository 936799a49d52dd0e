"""Journals without an owner are shipped to the end by whoever finds them."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path

from shipping import SHARDS, FaultyLog, everything_in, ids, opened, record

from pulsetrail.events import Event
from pulsetrail.journal import Journal
from pulsetrail.log import Batch
from pulsetrail.log.memory import MemoryLog
from pulsetrail.orphans import OrphanKeeper, adopt_orphans


def new_log() -> MemoryLog:
    return MemoryLog(shards=SHARDS, key=b"k" * 32)


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def leave_orphans(directory: Path, workers: int) -> list[Event]:
    """Journals as processes leave them that were killed: connections open, nothing shipped."""
    events: list[Event] = []
    for worker in range(workers):
        async with Journal.open(directory / f"gateway-{worker}.sqlite") as journal:
            events += await record(journal, 20)
    return events


async def test_every_orphan_is_shipped_and_its_connections_are_ended(tmp_path: Path) -> None:
    events, log = await leave_orphans(tmp_path, 3), new_log()
    assert len(await adopt_orphans(tmp_path, log)) == 3
    stored = [recorded.event for recorded in await everything_in(log)]
    assert ids(events) <= ids(stored)
    lost = Counter(event.connection_id for event in stored if event.event_type == "connection.lost")
    assert lost == Counter(event.connection_id for event in events)


async def test_a_second_adoption_adds_nothing(tmp_path: Path) -> None:
    await leave_orphans(tmp_path, 2)
    log = new_log()
    await adopt_orphans(tmp_path, log)
    first = await everything_in(log)
    await adopt_orphans(tmp_path, log)
    assert await everything_in(log) == first


async def test_two_adopters_at_once_end_each_connection_once(tmp_path: Path) -> None:
    events = await leave_orphans(tmp_path, 4)
    log = new_log()
    await asyncio.gather(adopt_orphans(tmp_path, log), adopt_orphans(tmp_path, log))
    await adopt_orphans(tmp_path, log)
    stored = Counter((recorded.event.connection_id, recorded.event.event_type) for recorded in await everything_in(log))
    assert len(stored) == 2 * len(events)
    assert set(stored.values()) == {1}


async def test_a_journal_with_an_owner_is_left_alone(tmp_path: Path) -> None:
    log = new_log()
    async with Journal.open(tmp_path / "gateway-0.sqlite") as journal:
        await record(journal, 5)
        assert await adopt_orphans(tmp_path, log) == []
    assert await everything_in(log) == []


async def test_a_process_that_comes_back_by_itself_is_not_adopted(tmp_path: Path) -> None:
    await leave_orphans(tmp_path, 1)
    log = new_log()
    assert await adopt_orphans(tmp_path, log, exclude=["gateway-0"]) == []
    assert await everything_in(log) == []


async def test_an_adopted_journal_is_removed_once_it_was_kept_long_enough(tmp_path: Path) -> None:
    events, log = await leave_orphans(tmp_path, 1), new_log()
    keeper = OrphanKeeper(tmp_path, log, keep_seconds=0.0)
    await keeper.adopt()
    assert "gateway-0.sqlite" in names_in(tmp_path)
    await keeper.adopt()
    assert names_in(tmp_path) == set()
    assert len(await everything_in(log)) == 2 * len(events)


async def test_an_adopter_that_is_killed_half_way_leaves_nothing_undone(tmp_path: Path) -> None:
    events = await leave_orphans(tmp_path, 1)
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from pulsetrail.journal import Journal\n"
        "async def main():\n"
        "    journal = Journal.open(Path(sys.argv[1]))\n"
        "    await journal.recover()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(tmp_path / "gateway-0.sqlite"))
    assert await killed.wait() == -9
    log = new_log()
    await adopt_orphans(tmp_path, log)
    stored = Counter((recorded.event.connection_id, recorded.event.event_type) for recorded in await everything_in(log))
    assert len(stored) == 2 * len(events)
    assert set(stored.values()) == {1}


async def test_an_event_recorded_while_its_process_was_adopted_before_is_shipped_too(tmp_path: Path) -> None:
    await leave_orphans(tmp_path, 1)
    log = FaultyLog()
    keeper = OrphanKeeper(tmp_path, log)
    await keeper.adopt()
    async with Journal.open(tmp_path / "gateway-0.sqlite") as journal:
        assert await keeper.adopt() == [], "the process that came back owns it"
        journal.record(event := opened())
        await journal.durable()
        batches: list[Batch] = list(log.batches)
    await adopt_orphans(tmp_path, log)
    assert len(log.batches) > len(batches)
    assert event.event_id in {recorded.event.event_id for recorded in await everything_in(log)}
