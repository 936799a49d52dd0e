"""The projector: keeps every build of every projection at the head of the log.

Any number may run. Who holds a checkpoint's row lock folds that build and shard; the others find it locked and go on,
so a leader that dies is replaced with its next poll and one that freezes when the database ends its transaction.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

import asyncpg

from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.builds import BuildState, builds
from pulsetrail.projections.folding import BATCH_EVENTS, DATA_ERRORS, SQL, Connection, Folded, LogHole, Unit, fold_batch

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.25
ATTEMPTS: Final = 3
"""Tries of a batch that fails for its data, before the event at fault is looked for."""
MEASURE_SECONDS: Final = 1.0

CONNECTION_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    # No kind of InterfaceError: the server's last words crossed a request, and asyncpg is surprised by them.
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.InvalidAuthorizationSpecificationError,
)

SESSION: Final = {
    # Folds join a batch with itself: hashing is right at any size and a nested loop, chosen for a wrong estimate, is
    # quadratic. Their look-ups into tables are laterals that can be nothing else.
    "enable_nestloop": "off",
    "jit": "off",
    "statement_timeout": "60s",
    "lock_timeout": "5s",
    # A frozen projector gives its checkpoints up.
    "idle_in_transaction_session_timeout": "15s",
    "timezone": "UTC",
}


class ProjectorObserver(Protocol):
    """Receiver of the projector's own figures."""

    def projection_measured(self, projection: str, lag_events: int, lag_seconds: float, dead_letters: int) -> None:
        """Where the live build of a projection stands against the real head of the log."""

    def contiguity_violated(self) -> None:
        """A read of the log met a hole."""


class NullProjectorObserver:
    """Nobody looks."""

    def projection_measured(self, projection: str, lag_events: int, lag_seconds: float, dead_letters: int) -> None:
        pass

    def contiguity_violated(self) -> None:
        pass


async def _sleep(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def _act_as_projector(connection: Connection) -> None:
    await connection.execute(SQL["act_as"])


async def connect_pool(url: str, *, size: int = 4, application_name: str = "pulsetrail projector") -> asyncpg.Pool:
    """A pool whose sessions are set up for folding, with no more rights than that takes. Connects when it is used."""
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        timeout=10,
        command_timeout=90,
        init=_act_as_projector,
        server_settings={**SESSION, "application_name": application_name},
    )


class Projector:
    """Runs the folds; ``pool`` comes from ``connect_pool`` and stays the caller's."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        wait: Callable[[float], Awaitable[None]] = _sleep,
        observer: ProjectorObserver | None = None,
        batch_events: int = BATCH_EVENTS,
        parallel: int = 2,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """``wait`` is ``Log.wait``: a doorbell that shortens the poll. ``parallel`` folds run at once, plus one of a
        build beside the live ones, so that a rebuild does not hold the live figures up."""
        self._pool = pool
        self._wait = wait
        self._observer = observer or NullProjectorObserver()
        self._batch_events = batch_events
        self._live = asyncio.Semaphore(parallel)
        self._building = asyncio.Semaphore(1)
        self._uniform = uniform
        self._running: dict[Unit, asyncio.Task[None]] = {}
        self._failures: dict[Unit, int] = {}
        self._holes: set[tuple[Unit, int]] = set()

    async def run(self) -> None:
        """Fold until cancelled, through any outage of the database."""
        enrolled = False
        measured_at = 0.0
        clock = asyncio.get_running_loop().time
        try:
            while True:
                pause = POLL_SECONDS * self._uniform(0.8, 1.2)
                try:
                    if not enrolled:
                        await self._enrol()
                        enrolled = True
                    await self._start_what_is_behind()
                    if clock() - measured_at >= MEASURE_SECONDS:
                        measured_at = clock()
                        await self._measure()
                        await self._enrol()
                except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
                    log.warning("The projector waits for the database: %s", error)
                    pause = self._uniform(0.5, 2.0)
                    await asyncio.sleep(pause)
                    continue
                await self._wait(pause)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def catch_up(self) -> None:
        """Fold until every build is at the head; what another projector leads is left to that one.

        Raises:
            LogHole: the log has a hole.
            asyncpg.PostgresError: a fold failed, not for its data.
        """
        await self._enrol()
        while units := await self._behind():
            steps = await asyncio.gather(*(self._step(unit) for unit in units))
            if not any(step.events or not step.is_caught_up for step in steps):
                return

    async def _enrol(self) -> None:
        await self._pool.execute(SQL["enrol"])

    async def _behind(self) -> list[Unit]:
        rows = await self._pool.fetch(
            SQL["behind"], list(PROJECTIONS), [projection.version for projection in PROJECTIONS.values()]
        )
        return [Unit(PROJECTIONS[row[0]], row[1], row[2], row[3]) for row in rows]

    async def _start_what_is_behind(self) -> None:
        for unit in await self._behind():
            if unit not in self._running:
                task = asyncio.create_task(self._follow(unit), name=f"fold {unit.projection.name}/{unit.shard}")
                self._running[unit] = task
                task.add_done_callback(partial(self._forget, unit))

    def _forget(self, unit: Unit, task: asyncio.Task[None]) -> None:
        self._running.pop(unit, None)

    async def _follow(self, unit: Unit) -> None:
        """Fold until the head; what fails is tried again with the next poll."""
        try:
            while not (await self._step(unit)).is_caught_up:
                pass
        except LogHole as hole:
            self._observer.contiguity_violated()
            if (unit, hole.position) not in self._holes:
                self._holes.add((unit, hole.position))
                log.error("%s", hole)
            await self._degrade(unit)
        except CONNECTION_ERRORS as error:
            log.warning("Projection %s, shard %d: %s", unit.projection.name, unit.shard, error)
        except asyncpg.PostgresError:
            log.exception("Projection %s, shard %d cannot be folded", unit.projection.name, unit.shard)
            await asyncio.sleep(self._uniform(0.5, 1.5))

    async def _step(self, unit: Unit) -> Folded:
        """One batch. Data errors are counted; after the third the event at fault is set aside."""
        gate = self._building if unit.is_building else self._live
        desperate = self._failures.get(unit, 0) >= ATTEMPTS
        async with gate, self._pool.acquire() as connection:
            try:
                step = await fold_batch(connection, unit, limit=self._batch_events, set_aside_poison=desperate)
            except DATA_ERRORS as error:
                self._failures[unit] = self._failures.get(unit, 0) + 1
                log.warning("Projection %s, shard %d: %s", unit.projection.name, unit.shard, error)
                return Folded(0, False)
        self._failures.pop(unit, None)
        if step.poisoned:
            log.error(
                "Projection %s, shard %d set %d events aside (dead_letter) and is degraded until it is rebuilt",
                unit.projection.name,
                unit.shard,
                step.poisoned,
            )
        return step

    async def _degrade(self, unit: Unit) -> None:
        try:
            await self._pool.execute(SQL["degrade"], unit.shard, unit.projection.name, unit.build)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            log.warning("Projection %s could not be marked as degraded: %s", unit.projection.name, error)

    async def _measure(self) -> None:
        async with self._pool.acquire() as connection:
            states: list[BuildState] = await builds(connection)
        for state in states:
            if state.status == "live":
                self._observer.projection_measured(
                    state.projection, state.lag_events, state.lag_seconds, state.dead_letters
                )
