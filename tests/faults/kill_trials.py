"""A service that is killed again and again under a fleet, and what its clients say about it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from armed.sitecustomize import EVERYTHING, GROUP, POINTS, SELF, Point
from checker import Finding
from examination import Examiner, gauge_findings
from fleet import OPEN_HOUSE, Fleet, Habits
from records import Record
from service_runner import Service
from trigger import Trigger

VICTIMS: Final = {SELF: "the process", GROUP: "its group", EVERYTHING: "everything"}
BY_NAME: Final = {point.name: point for point in POINTS}

BUSY: Final = Habits(telemetry_interval=0.25)
CHURN: Final = 20.0
"""Share of the clients that leaves and comes back in a minute while a point is armed."""
ENDING: Final = 0.3
"""Seconds in which a supervisor is gone that was killed with its group."""
MOST_LOSSES: Final = 3
REACHED: Final = 20.0
"""Seconds in which an armed point has to be reached."""
BACK: Final = 60.0
"""Seconds in which every client is to be back."""
SETTLED: Final = 30.0
"""Seconds in which everything has to be right again."""
LEASE: Final = 2.0
FROZEN_AFTER: Final = 1.0
"""Seconds in which what a gateway has open is in the log, so that the reaper knows of it."""

SETTINGS: Final = {
    **OPEN_HOUSE,
    "PULSETRAIL_HEARTBEAT_INTERVAL": "3",
    "PULSETRAIL_IDLE_TIMEOUT": "30",
    "PULSETRAIL_JOURNAL_MAX_BYTES": str(4 << 20),  # purged long before it is full, and sheds nothing
}


@dataclass
class Trial:
    """A service, its fleet, and who judges."""

    service: Service
    trigger: Trigger
    fleet: Fleet
    examiner: Examiner
    workers: int
    _losses: int = 0
    """Workers, or Postgres, that this supervisor has started again."""

    async def kill_at(self, point: Point, victims: int, *, nth: int = 1) -> bool:
        """Bring a process to ``point`` and kill it there, with its other ``victims``; whether it got there."""
        arm = (point.name, victims)
        if point.occasion == "traffic":
            self.trigger.arm(*arm, nth=nth)
            churning = self.fleet.churn(CHURN)
            fired = await self.trigger.fired(REACHED)
            churning.cancel()
        elif point.occasion == "stop":
            self.trigger.arm(*arm)
            self.service.terminate()
            fired = await self.trigger.fired(REACHED)
        elif point.occasion == "frozen node":
            fired = await self._kill_beside_a_frozen_node(*arm)
        else:
            if point.occasion == "fewer workers":
                await self._have_workers(2)
            await asyncio.to_thread(self.service.kill_everything)
            self.trigger.arm(*arm)
            if point.occasion == "fewer workers":
                self.use_workers(1)
            with contextlib.suppress(AssertionError):  # it may be killed before it is ready
                await asyncio.to_thread(self.service.start)
            fired = await self.trigger.fired(REACHED)
        self.trigger.disarm()
        return fired

    async def _kill_beside_a_frozen_node(self, point: str, victims: int) -> bool:
        await asyncio.sleep(FROZEN_AFTER)
        frozen = self.service.worker_pid("gateway-0")
        os.kill(frozen, signal.SIGSTOP)
        try:
            self.trigger.arm(point, victims)
            return await self.trigger.fired(REACHED)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(frozen, signal.SIGCONT)

    def use_workers(self, workers: int) -> None:
        """From its next start on the service has so many workers."""
        self.workers = workers
        self.service.environment["PULSETRAIL_WORKERS"] = str(workers)

    async def _have_workers(self, least: int) -> None:
        """Have at least so many workers, with clients and telemetry each."""
        if self.workers < least:
            await asyncio.to_thread(self.service.kill_everything)
            self.use_workers(least)
            await asyncio.to_thread(self.service.start)
            await self.fleet.until_all_open(BACK)
            await asyncio.sleep(1.0)

    async def recover(self, workers: int | None = None) -> None:
        """Start the service again if it has ended, with another number of ``workers`` if one is given, and wait until
        every client is back. A supervisor that has lost several workers is killed too, with all that it has: it waits
        longer each time before it starts one.

        Raises:
            AssertionError: that does not happen in time.
        """
        ended = await asyncio.to_thread(self.service.has_ended, ENDING)
        self._losses += not ended
        if self._losses >= MOST_LOSSES or self.service.is_stopping:
            await asyncio.to_thread(self.service.kill_everything)
            ended = True
        if ended:
            if workers is not None:
                self.use_workers(workers)
            self._losses = 0
            await asyncio.to_thread(self.service.start)
        await self.fleet.until_all_open(BACK)

    async def findings(self, patience: float = SETTLED) -> list[Finding]:
        """What is wrong now that everybody is back, and stays so for ``patience`` seconds."""
        async with self.fleet.quiet(BACK):
            findings = await self.examiner.settle(patience)
            return findings + await gauge_findings(
                self.service.http, "ws_updates_clients", len(self.fleet.clients), patience
            )

    async def verdict(self, patience: float = SETTLED) -> list[Finding]:
        """Everything that can be known, once the fleet has left for good."""
        await self.fleet.retire(BACK)
        findings = await self.examiner.examine_all(patience)
        return findings + await gauge_findings(self.service.http, "ws_updates_clients", 0, patience)


@asynccontextmanager
async def trial(
    directory: Path, *, clients: int, workers: int = 2, seed: int = 0, lease: float = LEASE, **environment: str
) -> AsyncIterator[Trial]:
    """A running service with every client connected; at the end nothing of it is left."""
    with Trigger(directory / "trigger") as trigger, Record(directory / "clients.jsonl") as record:
        service = Service(directory / "data", prefix=(), **{**SETTINGS, **trigger.environment, **environment})
        service.data_dir.mkdir()
        service.environment |= {"PULSETRAIL_WORKERS": str(workers), "PULSETRAIL_NODE_LEASE": str(lease)}
        try:
            await asyncio.to_thread(service.start)
            async with Fleet(record, service.port, clients, habits=BUSY, seed=seed) as fleet:
                await fleet.connect()
                yield Trial(service, trigger, fleet, Examiner(service.database_url, [record.path]), workers)
        finally:
            with contextlib.suppress(AssertionError):
                service.kill_everything()


# --- kills ------------------------------------------------------------------------------------------------------------

Kill = Callable[[Trial, random.Random], Awaitable[tuple[str, bool]]]
"""Kills something; what it was, in words, and whether it was done."""

TARGETS: Final = ("a gateway", "the projector", "the supervisor", "the group", "everything", "Postgres")


def kill_at(point: Point, victims: int) -> Kill:
    """A kill at an armed point, at one of its first passages."""

    async def kill(one: Trial, rng: random.Random) -> tuple[str, bool]:
        nth = rng.randint(1, 5) if point.occasion == "traffic" else 1
        done = await one.kill_at(point, victims, nth=nth)
        return f"{VICTIMS[victims]}, {point.name}", done

    return kill


async def kill_at_random(one: Trial, rng: random.Random) -> tuple[str, bool]:
    """A kill of something at some time."""
    target, delay = rng.choice(TARGETS), rng.uniform(0.0, 1.5)
    churning = one.fleet.churn(CHURN)
    await asyncio.sleep(delay)
    if target == "everything":
        await asyncio.to_thread(one.service.kill_everything)
    elif target == "the group":
        one.service.kill_group()
    else:
        pids = {
            "a gateway": lambda: one.service.worker_pid(f"gateway-{rng.randrange(one.workers)}"),
            "the projector": lambda: one.service.worker_pid("projector"),
            "the supervisor": lambda: one.service.pid,
            "Postgres": one.service.postgres_pid,
        }
        os.kill(pids[target](), signal.SIGKILL)
    churning.cancel()
    return f"{target}, after {delay:.2f} s", True


async def kill_everything_behind_a_frozen_postgres(one: Trial, rng: random.Random) -> tuple[str, bool]:
    """Postgres freezes, the journals fill, all of it is killed."""
    delay = rng.uniform(0.2, 2.0)
    with one.service.frozen_postgres():
        churning = one.fleet.churn(CHURN)
        await asyncio.sleep(delay)
        churning.cancel()
        await asyncio.to_thread(one.service.kill_everything)
    return f"everything, {delay:.2f} s after Postgres was frozen", True


async def kill_during_an_orderly_end(one: Trial, rng: random.Random) -> tuple[str, bool]:
    """SIGTERM, and SIGKILL before that is done."""
    delay = rng.uniform(0.0, 1.0)
    one.service.terminate()
    await asyncio.sleep(delay)
    await asyncio.to_thread(one.service.kill_everything)
    return f"everything, {delay:.2f} s after SIGTERM", True
