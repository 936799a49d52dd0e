"""Clients under way while something happens to the service, and what they must not notice of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
from examination import Examiner, assert_nothing_is_wrong
from fleet import Fleet, Habits
from records import Record
from service_runner import Service

HEARTBEAT = 1.0
"""Seconds between heartbeats of the services here."""
HEARTBEAT_LATE = 0.75
"""Seconds that one may be late on a machine that other things run on as well."""
WELCOME_SECONDS = 3.0
"""An outage takes longer: a handshake that waits for the database would show."""


class Load:
    """A fleet that churns and talks all the time, and who judges by its record."""

    def __init__(self, fleet: Fleet, examiner: Examiner, handshakes: float) -> None:
        self.fleet = fleet
        self.examiner = examiner
        self._churning = fleet.churn(handshakes * 60 / len(fleet.clients))
        self._rest = AsyncExitStack()

    async def settled(self, patience: float) -> None:
        """Return when the log has everything that is acknowledged by now."""
        assert_nothing_is_wrong(await self.examiner.settle(patience))

    async def come_to_rest(self) -> None:
        """From now on nobody leaves or says anything; return when everything is in the log."""
        if not self._churning.done():
            self._churning.cancel()
            await self.fleet.until_all_open(20)
            await self._rest.enter_async_context(self.fleet.quiet())
            await self.settled(30)

    def assert_nobody_noticed(self) -> None:
        """No client has seen anything of what happened."""
        assert not self.examiner.clients.refusals, f"refused: {self.examiner.clients.refusals}"
        self.assert_served_in_time()

    def assert_served_in_time(self) -> None:
        """No connection was dropped, no heartbeat was late, and no handshake."""
        assert not self.fleet.drops, f"{self.fleet.drops} connections were dropped"
        silence = self.fleet.longest_silence
        assert silence < HEARTBEAT + HEARTBEAT_LATE, f"{silence:.2f} s between two heartbeats"
        assert self.fleet.slowest_welcome < WELCOME_SECONDS, f"a handshake took {self.fleet.slowest_welcome:.2f} s"


@asynccontextmanager
async def load(
    service: Service, record: Path, clients: int, handshakes: float, *, examiner: Examiner | None = None
) -> AsyncIterator[Load]:
    """Clients that have come, of which ``handshakes`` a second leave and come back. At the end they come to rest, if
    they have not before. An ``examiner`` of one's own knows the records of several fleets."""
    with Record(record) as opened:
        async with Fleet(
            opened, service.port, clients, name=record.stem, habits=Habits(telemetry_interval=2.0)
        ) as fleet:
            await fleet.connect()
            fleet.longest_silence = fleet.slowest_welcome = 0.0
            under_way = Load(fleet, examiner or Examiner(service.database_url, [record]), handshakes)
            yield under_way
            await under_way.come_to_rest()


async def until(condition: Callable[[], Awaitable[bool]], patience: float, what: str) -> None:
    """Wait for something; fail when it does not happen in time."""
    limit = time.monotonic() + patience
    while not await condition():
        assert time.monotonic() < limit, f"{what} did not happen within {patience:g} s"
        await asyncio.sleep(0.05)


async def recorded(url: str, event_type: str) -> int:
    """How many events of a type are in the log."""
    connection = await asyncpg.connect(url)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM events WHERE event_type = $1", event_type)
    finally:
        await connection.close()
    return count
