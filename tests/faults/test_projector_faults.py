"""F4: projectors are killed, stopped and doubled and meet an event that cannot be folded; each event counts once.

The projectors are the product's own processes. They are killed at random, and at the worst moment: when a batch is
folded and the checkpoint is about to move.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random

import asyncpg
import msgspec
import pytest
from recorded_lives import Life, all_rows, append, in_time, minted_in_turn, random_lives
from sizes import FULL

from pulsetrail.log import Log
from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.builds import builds, rebuild
from pulsetrail.verify import Report, verify

SHARDS = 4
ROUNDS = 20 if FULL else 1
FROZEN_SECONDS = 20.0 if FULL else 0.5
"""Longer than a transaction may be idle, in full: the database then takes the checkpoint from who holds it."""
GATE = 4711
FOR_EVER = 1e9
"""Seconds for which an unended connection of these made-up nodes is nothing to be found."""

ARM = f"""
CREATE FUNCTION stand_still() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM pg_advisory_xact_lock_shared({GATE}); RETURN NEW; END';
CREATE TRIGGER stand_still BEFORE UPDATE OF position ON projection_checkpoint
    FOR EACH ROW EXECUTE FUNCTION stand_still();
"""
STANDING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


class ProjectorProcess:
    """``pulsetrail projector`` without its supervisor, which would bring it back when we do not want it."""

    def __init__(self, url: str, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PULSETRAIL_")},
            "DATABASE_URL": url,
            "PULSETRAIL_DATA_DIR": str(directory),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with (self._directory / "output").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "pulsetrail.cli", "worker", "projector"),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=self._environment,
            )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self.send(signal.SIGKILL)
        assert await self._process.wait() == -signal.SIGKILL, (self._directory / "output").read_text()


@asynccontextmanager
async def projectors(url: str, directory: Path, count: int) -> AsyncIterator[list[ProjectorProcess]]:
    made = [ProjectorProcess(url, directory / f"projector-{number}") for number in range(count)]
    for one in made:
        await one.start()
    try:
        yield made
    finally:
        for one in made:
            await one.kill()


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


def poisoned(life: Life) -> Life:
    """A life whose end says of a truth value that it is "perhaps"."""
    last = msgspec.json.decode(life.events[-1].payload) | {"was_clean": "perhaps"}
    life.events[-1] = msgspec.structs.replace(life.events[-1], payload=msgspec.json.encode(last))
    return life


class Traffic:
    """Lives in every shard in turn, a few at a time."""

    def __init__(self, log: Log) -> None:
        self.events = 0
        self._log = log
        self._number = 0

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Append again and again beside the block."""

        async def flow() -> None:
            while True:
                await self.append()
                await asyncio.sleep(0.02)

        task = asyncio.create_task(flow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))
        if not task.cancelled():
            task.result()

    async def append(self, *, poison: bool = False) -> None:
        shard = self._number % SHARDS
        lives = random_lives(9_000 + self._number, 4, shard=shard)
        self._number += 1
        if poison:
            lives.append(poisoned(Life("poison", shard=shard, opened_at=lives[1].opened_at).open().close(1)))
        stream = minted_in_turn(in_time(lives))
        self.events += len(stream)
        await append(self._log, stream)


class Faults:
    """What happens to the projectors, one after the other."""

    def __init__(self, owner: asyncpg.Connection, running: list[ProjectorProcess], chance: Random) -> None:
        self._owner = owner
        self._running = running
        self._chance = chance

    async def _folding(self) -> None:
        """Wait until somebody folds."""
        before = await self._folded()

        async def moved() -> bool:
            return await self._folded() > before

        await until(moved)

    async def _folded(self) -> int:
        total: int = await self._owner.fetchval("SELECT sum(position)::bigint FROM projection_checkpoint")
        return total

    async def kill_at_random(self) -> None:
        victim = self._chance.choice(self._running)
        await self._folding()
        await asyncio.sleep(self._chance.random() * 0.1)
        await victim.kill()
        await victim.start()

    async def kill_before_the_checkpoint_moves(self) -> None:
        """Both at once, so that nobody is left to make good what is lost."""
        await self._folding()
        await self._owner.execute(f"SELECT pg_advisory_lock({GATE})")

        async def standing() -> bool:
            return bool(await self._owner.fetchval(STANDING))

        await until(standing)
        for one in self._running:
            await one.kill()
        await self._owner.execute(f"SELECT pg_advisory_unlock({GATE})")
        for one in self._running:
            await one.start()

    async def freeze(self, seconds: float) -> None:
        """Stop one of them in the middle of whatever it does; the other goes on."""
        victim = self._chance.choice(self._running)
        await self._folding()
        victim.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            victim.send(signal.SIGCONT)


async def wrong_checkpoints(owner: asyncpg.Connection) -> list[str]:
    """Checkpoints that are not at the head, or do not name the time of the event that they stand at."""
    rows = await owner.fetch(
        """
        SELECT c.projection, c.version, c.shard, c.position, c.recorded_at, s.head_position, e.recorded_at AS event_at
        FROM projection_checkpoint c JOIN log_shard s USING (shard)
        LEFT JOIN events e ON e.shard = c.shard AND e.position = c.position
        WHERE c.version > 0 AND (c.position <> s.head_position OR c.recorded_at IS DISTINCT FROM e.recorded_at)
        """
    )
    return [str(dict(row)) for row in rows]


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings}


@pytest.mark.timeout(1800)
async def test_a_rebuilt_projection_equals_the_live_one_whatever_happened_to_its_projectors(
    database_url: str, postgres_log: Log, tmp_path: Path
) -> None:
    owner = await asyncpg.connect(database_url)
    await owner.execute(ARM)
    traffic = Traffic(postgres_log)

    async def folded() -> bool:
        return all(state.lag_events == 0 for state in await builds(owner))

    async with projectors(database_url, tmp_path, 2) as running:
        faults = Faults(owner, running, Random(4))
        async with traffic.flowing():
            for _ in range(ROUNDS):
                await faults.kill_at_random()
                await faults.kill_before_the_checkpoint_moves()
                await faults.freeze(FROZEN_SECONDS)
        await until(folded)
        report = await verify(owner, grace_seconds=FOR_EVER)
        assert report.is_sound, [str(finding) for finding in report.findings[:5]]

        for _ in range(SHARDS):
            await traffic.append(poison=True)
        await faults.kill_at_random()
        await until(folded)
        rebuilt = {name: await rebuild(owner, name) for name in PROJECTIONS}
        await until(folded)
    live, again = await all_rows(owner), await all_rows(owner, rebuilt)
    for stem in live:
        assert again[stem] == live[stem], f"{stem}: the live rows and the rebuilt ones differ"
    assert await owner.fetchval("SELECT sum(head_position)::bigint FROM log_shard") == traffic.events
    assert await wrong_checkpoints(owner) == []
    letters = dict(await owner.fetch("SELECT stage, count(*) FROM dead_letter GROUP BY stage"))
    assert letters == {"connections": SHARDS}, "each poison event is set aside once, and nothing else is"
    states = {state.projection: state.degraded for state in await builds(owner)}
    assert states == {name: name == "connections" for name in PROJECTIONS}
    assert kinds(await verify(owner, grace_seconds=FOR_EVER)) == {"degraded"}
    await owner.close()
