"""Partitions are there before they are needed, and go when nobody needs them any more."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from log_events import a_batch, an_event, everything

from pulsetrail.errors import LogHole, LogUnavailable
from pulsetrail.events import Event
from pulsetrail.identity import new_id
from pulsetrail.log import Cursor
from pulsetrail.log.partitions import DAYS_AHEAD, ensure_partitions, partitions_ahead, retain
from pulsetrail.log.postgres import PostgresLog

DAY_US = 86_400_000_000


@pytest.fixture
async def admin(database_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def partitions(admin: Any) -> list[str]:
    """Attached ones, oldest first."""
    rows = await admin.fetch("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass")
    return sorted(row[0] for row in rows)


def name_of(days_ago: int) -> str:
    return f"events_{datetime.now(UTC) - timedelta(days=days_ago):%Y%m%d}"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
async def history(admin: Any, postgres_log: PostgresLog) -> list[Event]:
    """Three events of 40 days ago, two of 35 days ago, one of today, all of shard 0; no projection reads them."""
    await admin.execute("DELETE FROM projection_checkpoint")
    events: list[Event] = []
    for days_ago, count in ((40, 3), (35, 2), (0, 1)):
        day = datetime.now(UTC).date() - timedelta(days=days_ago)
        await admin.fetchval("SELECT create_events_partition($1)", day)
        batch = [an_event(payload={"day": days_ago}) for _ in range(count)]
        await postgres_log.append(a_batch(new_id(), 1, batch))
        # As if they had been appended then.
        await admin.execute("SET session_replication_role = replica")
        await admin.execute(
            "UPDATE events SET recorded_at = recorded_at - $1::interval WHERE position > $2",
            timedelta(days=days_ago),
            len(events),
        )
        await admin.execute("RESET session_replication_role")
        events += batch
    return events


async def checkpoint(admin: Any, position: int, status: str, version: int = 1) -> None:
    await admin.execute(
        "INSERT INTO projection_checkpoint (shard, projection, version, position, status) "
        "VALUES (0, 'connections', $1, $2, $3)",
        version,
        position,
        status,
    )


async def test_a_week_of_partitions_is_made_ahead_once(database_url: str, admin: Any) -> None:
    assert await ensure_partitions(database_url) == 0, "the migration made them"
    assert await partitions(admin) == [name_of(-offset) for offset in range(DAYS_AHEAD + 1)]
    assert await ensure_partitions(database_url, days_ahead=9) == 2
    assert await partitions_ahead(database_url) == 9


async def test_bounds_are_days_in_utc_whatever_the_session_thinks(admin: Any) -> None:
    await admin.execute("SET timezone = 'Pacific/Auckland'")
    await admin.fetchval("SELECT create_events_partition('2001-02-03')")
    await admin.execute("SET timezone = 'UTC'")
    bounds = await admin.fetchval(
        "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE relname = 'events_20010203'"
    )
    assert bounds == "FOR VALUES FROM ('2001-02-03 00:00:00+00') TO ('2001-02-04 00:00:00+00')"


async def test_a_missing_partition_fails_loudly_and_stores_nothing(
    database_url: str, admin: Any, postgres_log: PostgresLog
) -> None:
    await admin.execute(f"DROP TABLE {name_of(0)}")
    batch = a_batch(new_id(), 1, [an_event()])
    with pytest.raises(LogUnavailable, match="no partition of relation"):
        await postgres_log.append(batch)
    assert await postgres_log.lane(0, batch.producer_id) == 0
    await ensure_partitions(database_url)
    assert (await postgres_log.append(batch)).head.position == 1


async def test_there_is_no_default_partition(admin: Any) -> None:
    assert await admin.fetchval("SELECT partdefid FROM pg_partitioned_table") == 0


async def test_retention_drops_what_is_old_and_says_where_the_log_begins(
    database_url: str, admin: Any, postgres_log: PostgresLog, history: list[Event]
) -> None:
    done = await retain(database_url, days=37)
    assert done == ((name_of(40),), ())
    assert name_of(35) in await partitions(admin)
    assert [row.position for row in await postgres_log.read_after(0, Cursor(), 10)] == [4, 5, 6]
    assert await admin.fetchval("SELECT truncated_before FROM log_shard WHERE shard = 0") == 4
    assert await admin.fetchval("SELECT truncated_before FROM log_shard WHERE shard = 1") == 1
    assert (await retain(database_url, days=30)).dropped == (name_of(35),)
    assert [event.event_id for event in await everything(postgres_log)] == [history[-1].event_id]
    assert await retain(database_url, days=30) == ((), ())


async def test_a_reader_that_retention_has_overtaken_is_told(
    database_url: str, postgres_log: PostgresLog, history: list[Event]
) -> None:
    await retain(database_url, days=30)
    with pytest.raises(LogHole):
        await postgres_log.read_after(0, Cursor(1, 0), 10)


@pytest.mark.parametrize("status", ["live", "building", "paused", "degraded"])
async def test_a_partition_that_a_projection_still_needs_stays(
    database_url: str, admin: Any, postgres_log: PostgresLog, history: list[Event], status: str
) -> None:
    await checkpoint(admin, 2, status)
    assert await retain(database_url, days=30) == ((), ("connections",))
    assert len(await everything(postgres_log)) == 6
    await admin.execute("UPDATE projection_checkpoint SET position = 3")
    assert await retain(database_url, days=30) == ((name_of(40),), ("connections",))


async def test_a_retired_projection_holds_nothing_back(database_url: str, admin: Any, history: list[Event]) -> None:
    await checkpoint(admin, 0, "retired")
    await checkpoint(admin, 6, "live", version=2)
    assert (await retain(database_url, days=30)).dropped == (name_of(40), name_of(35))


async def test_an_archive_holds_every_event_before_it_goes(
    database_url: str, history: list[Event], tmp_path: Path
) -> None:
    await retain(database_url, days=30, archive=tmp_path)
    assert names_in(tmp_path) == [f"{name_of(40)}.jsonl", f"{name_of(35)}.jsonl"]
    lines = [json.loads(line) for line in (tmp_path / f"{name_of(40)}.jsonl").read_text().splitlines()]
    assert [line["event_id"] for line in lines] == [str(event.event_id) for event in history[:3]]
    assert lines[0]["payload"] == {"day": 40}


async def test_a_partition_stays_until_it_is_archived(
    database_url: str, admin: Any, history: list[Event], tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="nowhere"):
        await retain(database_url, days=37, archive=tmp_path / "nowhere")
    assert name_of(40) not in await partitions(admin)
    assert (await retain(database_url, days=37, archive=tmp_path)).dropped == (name_of(40),)
    assert len((tmp_path / f"{name_of(40)}.jsonl").read_text().splitlines()) == 3


async def test_a_detachment_that_was_interrupted_is_finished(
    database_url: str, admin: Any, history: list[Event]
) -> None:
    # A transaction that reads the partition keeps the second half of the detachment waiting.
    reader = await asyncpg.connect(database_url)
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetch("SELECT FROM events")
    await admin.execute("SET statement_timeout = '300ms'")
    with pytest.raises(asyncpg.QueryCanceledError):
        await admin.execute(f"ALTER TABLE events DETACH PARTITION {name_of(40)} CONCURRENTLY")
    await transaction.rollback()
    await reader.close()
    assert (await retain(database_url, days=37)).dropped == (name_of(40),)


async def test_a_young_table_that_is_not_attached_is_nobodys_to_drop(database_url: str, admin: Any) -> None:
    await admin.execute(f"ALTER TABLE events DETACH PARTITION {name_of(-1)}")
    assert (await retain(database_url, days=1)).dropped == ()
    assert await admin.fetchval("SELECT to_regclass($1)::text", name_of(-1)) == name_of(-1)
    assert await partitions_ahead(database_url) == 0


async def test_what_has_expired_goes_too(database_url: str, admin: Any) -> None:
    await admin.execute(
        "INSERT INTO dead_letter (shard, letter_id, stage, reason, raw, expires_at) "
        "SELECT 0, gen_random_uuid(), 'append', 'r', '', now() + make_interval(days => d) "
        "FROM unnest('{-1,1}'::int[]) d"
    )
    await admin.execute(
        "INSERT INTO page_lane (shard, page_id, seen, received_at) VALUES "
        "(0, 'old', '{}', now() - interval '31 days'), (0, 'new', '{}', now())"
    )
    await retain(database_url, days=30)
    assert await admin.fetchval("SELECT count(*) FROM dead_letter") == 1
    assert await admin.fetchval("SELECT string_agg(page_id, ',') FROM page_lane") == "new"


async def test_reading_on_from_a_cursor_opens_no_older_partition(admin: Any, history: list[Event]) -> None:
    plan = await admin.fetch(
        "EXPLAIN (ANALYZE, FORMAT TEXT) SELECT * FROM events WHERE shard = 0 AND position > 5 "
        "AND recorded_at >= $1::timestamptz ORDER BY position LIMIT 10",
        datetime.now(UTC) - timedelta(minutes=5),
    )
    text = "\n".join(row[0] for row in plan)
    assert name_of(0) in text
    assert name_of(40) not in text
