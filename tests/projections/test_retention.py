"""What retention drops stays in the totals, and a rebuilt projection still equals the live one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncpg
from recorded_lives import Life, all_rows, append, in_time, random_lives

from pulsetrail.log import Log
from pulsetrail.log.partitions import retain
from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.balances import carry_forward
from pulsetrail.projections.builds import promote, rebuild
from pulsetrail.projections.figures import figures
from pulsetrail.projections.runner import Projector
from pulsetrail.verify import verify

DAYS = 30


async def age(owner: asyncpg.Connection, days: int) -> None:
    """Make everything in the log ``days`` days older, as if it had been recorded then."""
    await owner.execute("SELECT create_events_partition($1)", (datetime.now(UTC) - timedelta(days=days)).date())
    await owner.execute("SET session_replication_role = replica")
    for table, column in (
        ("events", "recorded_at"),
        ("log_shard", "head_recorded_at"),
        ("projection_checkpoint", "recorded_at"),
    ):
        await owner.execute(
            f"UPDATE {table} SET {column} = {column} - make_interval(days => $1) WHERE {column} > 'epoch'",  # noqa: S608  # named above
            days,
        )
    await owner.execute("SET session_replication_role = origin")


async def test_a_rebuild_after_retention_equals_the_live_projection_and_the_totals_stay(
    database_url: str, postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    old = [life for shard in range(4) for life in random_lives(20 + shard, 10, shard=shard)]
    outlasting = Life("patient", page="a page").open(release="9.9")
    lane = await append(postgres_log, [*in_time(old), *outlasting.events])
    await age(owner, 40)
    await projector.catch_up()
    before = await figures(owner)

    await carry_forward(owner, days=DAYS)
    late = next(life for life in old if life.events[-1].event_type == "backoff.scheduled")
    late.events.clear()
    late.account("socket.closed", 500, code=4100)
    outlasting.events.clear()
    outlasting.miss(100).close(200)
    new = [life for shard in range(4) for life in random_lives(30 + shard, 6, shard=shard)]
    await append(postgres_log, [*in_time(new), *outlasting.events, *late.events])
    await projector.catch_up()
    await carry_forward(owner, days=DAYS)
    retained = await retain(database_url, days=DAYS)
    assert (len(retained.dropped), retained.needed_by) == (1, ())
    assert await owner.fetchval("SELECT count(*) FROM events WHERE recorded_at < now() - interval '35 days'") == 0

    after = await figures(owner)
    assert after.connections_opened == before.connections_opened + len(new)
    assert ("9.9",) in {tuple(row) for row in await owner.fetch("SELECT release FROM closes")}
    builds = {name: await rebuild(owner, name) for name in PROJECTIONS}
    await projector.catch_up()
    live, rebuilt = await all_rows(owner), await all_rows(owner, builds)
    for table, rows in live.items():
        assert rebuilt[table] == rows, table
    report = await verify(owner)
    assert report.notes == []
    assert [str(finding) for finding in report.findings if finding.kind == "projection disagrees"] == []
    for name in PROJECTIONS:
        await promote(owner, name)
    assert await figures(owner) == after
    assert lane


async def test_what_is_over_and_older_than_retention_leaves_the_read_models(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    ended, still_open = Life("ended").open().close(5), Life("open").open()
    await append(postgres_log, [*ended.events, *still_open.events])
    await age(owner, 40)
    await projector.catch_up()
    await carry_forward(owner, days=50)
    assert await owner.fetchval("SELECT count(*) FROM connections") == 2
    await carry_forward(owner, days=DAYS)
    assert [row[0] for row in await owner.fetch("SELECT connection_id FROM connections")] == [still_open.connection_id]
    assert await owner.fetchval("SELECT sum(closes) FROM closes") == 1


async def test_retention_waits_for_the_opening_balances(
    database_url: str, postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    await carry_forward(owner, days=DAYS)
    await append(postgres_log, Life().open().close(5).events)
    await age(owner, 40)
    await projector.catch_up()
    assert (await retain(database_url, days=DAYS)).needed_by == tuple(sorted(PROJECTIONS))
    await carry_forward(owner, days=DAYS)
    assert len((await retain(database_url, days=DAYS)).dropped) == 1
