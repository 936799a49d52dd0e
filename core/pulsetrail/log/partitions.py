"""Daily partitions: made ahead, let go by retention.

What retention does to a partition, each step in a transaction of its own, any of which a later run takes up again:

1. With every checkpoint held still, look whether a projection still needs it; if not, write
   ``log_shard.truncated_before``. From here on nobody starts reading it. The opening balances are a build of each
   projection like any other (``projections/balances.py``): as long as they lack the partition, it stays.
2. Detach it concurrently: appends and reads go on.
3. Write it to the archive, if there is one, as JSON lines.
4. Drop it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg

from pulsetrail.errors import LogUnavailable
from pulsetrail.log.connections import open_connection
from pulsetrail.statements import load_statements

DAYS_AHEAD: Final = 7
_OWNER: Final = "pulsetrail_owner"
_PREFIX: Final = "events_"
_ARCHIVE_PAGE: Final = 5_000
_DEADLINE: Final = 60.0

_SQL: Final = load_statements(__package__, "queries.sql")


class Retained(NamedTuple):
    """What a run of retention did."""

    dropped: tuple[str, ...]
    """Partitions that are gone, oldest first."""
    needed_by: tuple[str, ...]
    """Projections that are behind and hold an old partition back; empty when none does."""


async def ensure_partitions(url: str, *, days_ahead: int = DAYS_AHEAD) -> int:
    """Make the partitions of today and the days ahead that are missing, each in a transaction of its own with a short
    lock timeout. There is no default partition: without one for the day, append fails loudly into the journal.

    Returns how many were made.

    Raises:
        LogUnavailable: the database cannot be reached, or the log stayed locked.
    """
    async with _maintaining(url) as connection:
        today = await connection.fetchval(_SQL["utc_today"])
        days = [today + timedelta(days=offset) for offset in range(days_ahead + 1)]
        return sum([await connection.fetchval(_SQL["create_partition"], day) for day in days])


async def partitions_ahead(url: str) -> int:
    """How many days after today have their partition, without a gap.

    Raises:
        LogUnavailable: the database cannot be reached.
    """
    async with _maintaining(url) as connection:
        today = await connection.fetchval(_SQL["utc_today"])
        days = {_day(row["name"]) for row in await connection.fetch(_SQL["partitions"]) if row["attached"]}
    ahead = 0
    while today + timedelta(days=ahead + 1) in days:
        ahead += 1
    return ahead


async def retain(url: str, *, days: int, archive: Path | None = None) -> Retained:
    """Let go of the partitions whose newest event is older than ``days`` days, but of none that a projection needs.

    Dead letters and page lanes that have expired go too.

    Raises:
        LogUnavailable: the database cannot be reached, or a lock was not to be had; the next run goes on.
        OSError: the archive cannot be written; the partition stays, detached, until it can.
    """
    needed: tuple[str, ...] = ()
    async with _maintaining(url) as connection:
        oldest_kept = await connection.fetchval(_SQL["utc_today"]) - timedelta(days=days)
        old = [row for row in await connection.fetch(_SQL["partitions"]) if _day(row["name"]) < oldest_kept]
        for row in old:
            if row["half_detached"]:
                await connection.execute(_for(row["name"], "finish_detaching"))
            elif row["attached"]:
                needed = await _give_up(connection, row["name"])
                if needed:
                    break
                await connection.execute(_for(row["name"], "detach_partition"))
        gone = [row["name"] for row in await connection.fetch(_SQL["partitions"]) if not row["attached"]]
        gone = [name for name in gone if _day(name) < oldest_kept]
        for name in gone:
            if archive is not None:
                await _archive(connection, name, archive)
            await connection.execute(_for(name, "drop_partition"))
        await connection.execute(_SQL["purge_dead_letters"])
        await connection.execute(_SQL["purge_page_lanes"], days)
    return Retained(tuple(gone), needed)


async def _give_up(connection: Any, name: str) -> tuple[str, ...]:
    """Step 1; returns the projections that still need the partition, and does nothing then."""
    async with connection.transaction():
        await connection.execute(_SQL["hold_checkpoints"])
        ends = await connection.fetch(_for(name, "partition_ends"))
        places = ([shard for shard, _, _ in ends], [position for _, position, _ in ends])
        needed = await connection.fetch(_SQL["needed_by"], *places)
        if needed:
            return tuple(row[0] for row in needed)
        await connection.execute(_SQL["truncate_before"], *places)
    return ()


async def _archive(connection: Any, name: str, directory: Path) -> None:
    """Write a detached partition to ``<directory>/<name>.jsonl``, by shard and position, whole or not at all."""
    target = directory / f"{name}.jsonl"
    partial = target.with_suffix(".partial")
    file = await asyncio.to_thread(partial.open, "wb")
    try:
        shard, position = -1, 0
        while rows := await connection.fetch(_for(name, "archive_page"), shard, position, _ARCHIVE_PAGE):
            shard, position, _ = rows[-1]
            await asyncio.to_thread(file.write, "".join(f"{row[2]}\n" for row in rows).encode())
        await asyncio.to_thread(file.flush)
        await asyncio.to_thread(os.fsync, file.fileno())
    finally:
        file.close()
    await asyncio.to_thread(partial.replace, target)


def _for(partition: str, statement: str) -> str:
    """A statement about one partition, whose name the catalogue has matched against digits."""
    return _SQL[statement].replace("{partition}", partition)


def _day(name: str) -> date:
    return date.fromisoformat(name.removeprefix(_PREFIX))


@asynccontextmanager
async def _maintaining(url: str) -> AsyncIterator[Any]:
    """A connection for maintenance: as the owner, where there is one, and with time for large tables."""
    connection: Any = None
    try:
        connection = await open_connection(
            url, application_name="pulsetrail partitions", role=_OWNER, deadline=_DEADLINE
        )
        yield connection
    except asyncpg.PostgresError as error:
        raise LogUnavailable(f"{error.sqlstate} {error}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, TimeoutError, ConnectionError) as error:
        raise LogUnavailable(str(error) or type(error).__name__) from error
    finally:
        if connection is not None:
            connection.terminate()
