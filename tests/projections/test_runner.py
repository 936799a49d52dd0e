"""Each event has its effect exactly once, whoever runs, dies or meets what cannot be folded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg
import msgspec
import pytest
from recorded_lives import EPOCH, Life, all_rows, append, in_time, random_lives, start_over

from pulsetrail.log import Log
from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.builds import BuildRefused, builds, cancel, pause, promote, rebuild
from pulsetrail.projections.folding import NEVER, SQL, LogHole, Unit, fold_batch
from pulsetrail.projections.runner import NullProjectorObserver, Projector
from pulsetrail.verify import verify

GATE = 4711


@asynccontextmanager
async def running(*projectors: Projector) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(projector.run()) for projector in projectors]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


async def lag(owner: asyncpg.Connection) -> int:
    return sum(state.lag_events for state in await builds(owner))


async def disagreements(owner: asyncpg.Connection) -> list[str]:
    report = await verify(owner)
    return [str(finding) for finding in report.findings if finding.kind == "projection disagrees"]


async def test_two_projectors_at_once_fold_each_event_once(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection, database_url: str
) -> None:
    lives = random_lives(11)
    stream = in_time(lives)
    async with running(Projector(pool, batch_events=9), Projector(pool, batch_events=5)):
        await append(postgres_log, stream)

        async def folded() -> bool:
            return await lag(owner) == 0

        await until(folded)
    raced = await all_rows(pool)
    await start_over(database_url)
    await Projector(pool).catch_up()
    assert raced == await all_rows(pool)
    assert await disagreements(owner) == []


async def cut_before_commit(
    owner: asyncpg.Connection, pool: asyncpg.Pool, work: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    """Run ``work`` until it has folded and moves the checkpoint, then cut its connection."""
    await owner.execute(
        f"""
        CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NEW; END';
        CREATE TRIGGER stand_still BEFORE UPDATE ON projection_checkpoint
            FOR EACH ROW EXECUTE FUNCTION stand_still();
        SELECT pg_advisory_lock({GATE});
        """
    )
    task = asyncio.create_task(work())

    async def waits() -> bool:
        return bool(await owner.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))

    await until(waits)
    await owner.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        await task
    await owner.execute(
        f"SELECT pg_advisory_unlock({GATE}); DROP TRIGGER stand_still ON projection_checkpoint; "
        "DROP FUNCTION stand_still()"
    )


async def test_a_projector_cut_between_fold_and_commit_loses_and_doubles_nothing(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection, projector: Projector
) -> None:
    await append(postgres_log, in_time(random_lives(12)))
    await cut_before_commit(owner, pool, projector.catch_up)
    await Projector(pool).catch_up()
    assert await lag(owner) == 0
    assert await disagreements(owner) == []


async def test_the_checker_catches_a_projector_that_moves_its_checkpoint_first(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    """The negative control of the test above: a checkpoint outside the fold's transaction loses events."""
    await append(postgres_log, in_time(random_lives(12)))
    unit = Unit(PROJECTIONS["connections"], 1, 0)

    async def naive() -> None:
        async with pool.acquire() as connection:
            key = (unit.shard, unit.projection.name, unit.build)
            batch = await connection.fetchrow(SQL["measure"], 0, 0, await beginning(), 50, NEVER)
            await connection.execute(SQL["advance"], *key, 0, batch["contiguous"], batch["recorded_at"])
            async with connection.transaction():
                await connection.execute(
                    unit.projection.fold(1),
                    0,
                    0,
                    batch["contiguous"],
                    await beginning(),
                    batch["recorded_at"],
                )
                raise asyncpg.InterfaceError("killed")

    async def beginning() -> object:
        return await pool.fetchval("SELECT 'epoch'::timestamptz")

    with pytest.raises(asyncpg.InterfaceError):
        await naive()
    await Projector(pool).catch_up()
    assert any("connections_v1" in finding for finding in await disagreements(owner))


async def test_a_hole_stops_the_projection_before_it_and_is_counted(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    await append(postgres_log, Life().open().miss(31).recover(33).close(60).events)
    await owner.execute(
        "SET session_replication_role = replica; DELETE FROM events WHERE shard = 0 AND position = 3; "
        "SET session_replication_role = origin"
    )
    with pytest.raises(LogHole) as hole:
        await Projector(pool).catch_up()
    assert hole.value.position == 3

    class Counting(NullProjectorObserver):
        violations = 0

        def contiguity_violated(self) -> None:
            self.violations += 1

    observer = Counting()
    async with running(Projector(pool, observer=observer)):
        await until(lambda: observer.violations >= len(PROJECTIONS))

        async def degraded() -> bool:
            return all(state.degraded for state in await builds(owner))

        await until(degraded)
    assert set(await owner.fetch("SELECT position FROM projection_checkpoint WHERE shard = 0")) == {(2,)}


async def test_a_poison_event_is_set_aside_alone_and_the_projection_says_degraded(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection
) -> None:
    good, bad = Life("good").open().close(10), Life("bad").open().close(20)
    last = msgspec.json.decode(bad.events[-1].payload) | {"was_clean": "perhaps"}
    poison = msgspec.structs.replace(bad.events[-1], payload=msgspec.json.encode(last))
    after = Life("after", opened_at=bad.opened_at + 60_000_000).open()
    await append(postgres_log, [*good.events, bad.events[0], poison, *after.events])
    async with running(Projector(pool)):

        async def folded() -> bool:
            return await lag(owner) == 0

        await until(folded)
    letters = await owner.fetch("SELECT stage, letter_id, raw FROM dead_letter")
    assert [(row["stage"], row["letter_id"]) for row in letters] == [("connections", poison.event_id)]
    assert msgspec.json.decode(letters[0]["raw"])["payload"]["was_clean"] == "perhaps"
    states = {state.projection: state for state in await builds(owner)}
    assert (states["connections"].degraded, states["connections"].dead_letters) == (True, 1)
    assert not states["closes"].degraded
    rows = await owner.fetch("SELECT is_open FROM connections ORDER BY opened_at, ended_at")
    assert sorted(row["is_open"] for row in rows) == [False, True, True]
    assert await disagreements(owner) == []


async def test_a_paused_projection_stands_still_and_the_others_do_not(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    await pause(owner, "closes")
    await append(postgres_log, Life().open().close(5).events)
    await projector.catch_up()
    lags = {state.projection: (state.lag_events, state.paused) for state in await builds(owner)}
    assert lags.pop("closes") == (2, True)
    assert set(lags.values()) == {(0, False)}
    await pause(owner, "closes", paused=False)
    await projector.catch_up()
    assert await lag(owner) == 0


async def test_a_build_that_is_behind_is_not_promoted(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    await append(postgres_log, Life().open().close(5).events)
    await projector.catch_up()
    await rebuild(owner, "clients")
    with pytest.raises(BuildRefused, match="2 events behind"):
        await promote(owner, "clients")
    with pytest.raises(BuildRefused, match="being filled"):
        await rebuild(owner, "clients")
    assert await cancel(owner, "clients") == 2
    with pytest.raises(BuildRefused, match="No build of clients is being filled"):
        await promote(owner, "clients")
    with pytest.raises(BuildRefused, match="There is no projection cliens"):
        await rebuild(owner, "cliens")


async def test_a_build_made_by_another_version_of_the_fold_is_left_alone(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    await owner.execute("UPDATE projection_build SET fold_version = 99 WHERE projection = 'nodes'")
    await append(postgres_log, Life(epoch=EPOCH).open().events)
    await projector.catch_up()
    assert {state.projection for state in await builds(owner) if state.lag_events} == {"nodes"}


async def test_the_lag_is_measured_against_the_head_in_events_and_seconds(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    await append(postgres_log, Life().open().events)
    await projector.catch_up()
    assert {(state.lag_events, state.lag_seconds) for state in await builds(owner)} == {(0, 0.0)}
    await append(postgres_log, Life().open().close(1).events)
    await asyncio.sleep(0.05)
    states = await builds(owner)
    assert {state.lag_events for state in states} == {2}
    assert all(0.05 <= state.lag_seconds < 30 for state in states)


async def test_one_unit_is_folded_by_one_projector_at_a_time(postgres_log: Log, pool: asyncpg.Pool) -> None:
    await append(postgres_log, Life().open().events)
    unit = Unit(PROJECTIONS["nodes"], 1, 0)
    async with pool.acquire() as leader, leader.transaction(), pool.acquire() as follower:
        await leader.fetchrow(SQL["take"], 0, "nodes", 1)
        assert (await fold_batch(follower, unit)).events == 0
    async with pool.acquire() as follower:
        assert (await fold_batch(follower, unit)).events == 1


class SurprisedOnce(NullProjectorObserver):
    """Fails the first measurement as a connection does that is cut in the middle of an answer."""

    def __init__(self) -> None:
        self.surprised = False
        self.measured = False

    def projection_measured(self, projection: str, lag_events: int, lag_seconds: float, dead_letters: int) -> None:
        if not self.surprised:
            self.surprised = True
            raise asyncpg.InternalClientError("got result for unknown protocol state 3")
        self.measured = True


async def test_a_connection_that_surprises_asyncpg_does_not_end_the_projector(pool: asyncpg.Pool) -> None:
    observer = SurprisedOnce()
    async with running(Projector(pool, observer=observer)):
        await until(lambda: observer.measured)
    assert observer.surprised
