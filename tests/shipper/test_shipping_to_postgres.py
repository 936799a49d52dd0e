"""The same promises against a real Postgres, whose connections are cut in the middle of everything."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from shipping import everything_in, ids, record, ship, shipping

from pulsetrail.events import Event
from pulsetrail.journal import Journal
from pulsetrail.log.postgres import PostgresLog
from pulsetrail.orphans import adopt_orphans

CHILD = Path(__file__).parent.parent / "journal" / "journal_child.py"


@asynccontextmanager
async def connections_being_cut(database_url: str) -> AsyncIterator[list[int]]:
    """Ends every connection of the log's to the database, again and again; yields how many were ended each time."""
    cuts: list[int] = []
    connection = await asyncpg.connect(database_url)

    async def cut() -> None:
        while True:
            await asyncio.sleep(0.03)
            cuts.append(
                await connection.fetchval(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE application_name = 'test' AND datname = current_database()"
                )
            )

    cutting = asyncio.create_task(cut())
    try:
        yield cuts
    finally:
        cutting.cancel()
        await asyncio.wait((cutting,))
        await connection.close()


async def test_connections_cut_at_any_moment_lose_and_double_nothing(
    tmp_path: Path, postgres_log: PostgresLog, database_url: str
) -> None:
    events: list[Event] = []
    async with Journal.open(tmp_path / "gateway-0.sqlite") as journal, shipping(journal, postgres_log) as shipper:
        async with connections_being_cut(database_url) as cuts:
            for _ in range(40):
                events += await record(journal, 50)
                await asyncio.sleep(0.02)
        assert await shipper.drain(60)
    assert sum(cuts) > 0, "no connection was cut, so nothing was tested"
    counts = Counter(recorded.event.event_id for recorded in await everything_in(postgres_log))
    assert counts.keys() == ids(events)
    assert set(counts.values()) == {1}


async def test_what_a_killed_process_acknowledged_is_in_the_log_once_however_often_it_is_shipped(
    tmp_path: Path, postgres_log: PostgresLog
) -> None:
    path = tmp_path / "gateway-0.sqlite"
    acknowledged: set[str] = set()
    for acknowledgements in (7, 90, 200):
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(CHILD), str(path), "honest", str(acknowledgements), stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        assert child.returncode == -9
        acknowledged |= {line.split()[1] for line in output.decode().splitlines() if line.startswith("ack ")}
    assert await adopt_orphans(tmp_path, postgres_log) == [path]
    async with Journal.open(path) as journal:
        for lane in await journal.lanes():
            await journal.rewind(lane.shard, lane.producer_id, 0)
        await ship(journal, postgres_log)
    stored = [recorded.event for recorded in await everything_in(postgres_log)]
    assert acknowledged <= {str(event.event_id) for event in stored}
    assert set(Counter(event.event_id for event in stored).values()) == {1}
    ends = Counter(e.connection_id for e in stored if e.event_type in ("connection.closed", "connection.lost"))
    assert ends == Counter(e.connection_id for e in stored if e.event_type == "connection.opened")
