"""The reaper: ends the connections of a node that is gone, once, and of no node that is only out of sight.

A lease that has run out proves something only to who could see it being renewed. So the reaper counts how long it has
itself been in contact with the database without a break, and judges nobody before that is a full lease: after an
outage every living node has had its chance to renew.

Why each connection is ended once: fencing and append lock the same lease row, so when an epoch is fenced every end it
wrote is in the log, and what it writes later is evidence only. The reaper takes that lock again, looks in the log for
an end, and appends its own in the same transaction; a second reaper waits, and then finds it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from pulsetrail.close_codes import Reason
from pulsetrail.events import CATALOGUE, ConnectionLost, Event, Source, encode_payload
from pulsetrail.identity import new_id
from pulsetrail.log import MAX_BATCH
from pulsetrail.log.storable import rows
from pulsetrail.projections.runner import CONNECTION_ERRORS
from pulsetrail.statements import load_statements

log = logging.getLogger(__name__)

SQL: Final = load_statements("pulsetrail.projections", "reaper.sql")
_LOST: Final = CATALOGUE["connection.lost"]


class Contact:
    """How long the database has been in sight without a break, by two clocks that have to agree.

    A break is an error, a silence of more than half a lease (the database or this process was frozen), or a step of
    the database's clock, by which every lease would seem to have run out at once.
    """

    def __init__(self, lease_seconds: float) -> None:
        self._lease = lease_seconds
        self._since: float | None = None
        self._last: tuple[float, datetime] | None = None

    def seen(self, monotonic: float, database: datetime) -> None:
        """The database answered just now; its clock said ``database``."""
        if self._last is not None:
            passed = monotonic - self._last[0]
            step = (database - self._last[1]).total_seconds() - passed
            if passed > self._lease / 2 or abs(step) > self._lease / 2:
                self._since = None
        if self._since is None:
            self._since = monotonic
        self._last = (monotonic, database)

    def lost(self) -> None:
        """The database did not answer."""
        self._since = self._last = None

    def judge_until(self) -> datetime | None:
        """Until when, by the database's clock, leases may be judged; ``None``: nobody may be, yet."""
        if self._since is None or self._last is None or self._last[0] - self._since < self._lease:
            return None
        return self._last[1] + timedelta(seconds=self._lease / 2)


class Reaper:
    """Watches the leases. Runs beside the projector, in any number of processes; ``pool`` stays the caller's."""

    def __init__(
        self, pool: asyncpg.Pool, *, lease_seconds: float, monotonic: Callable[[], float] | None = None
    ) -> None:
        self._pool = pool
        self._period = min(max(lease_seconds / 10, 0.05), 2.0)
        self._timeout = max(lease_seconds / 2, 1.0)
        self._monotonic = monotonic or (lambda: asyncio.get_running_loop().time())
        self._contact = Contact(lease_seconds)

    async def run(self) -> None:
        """Fence and end until cancelled, through any outage of the database."""
        while True:
            try:
                await asyncio.wait_for(self.look(), self._timeout)
                await self.reap()
            except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
                self._contact.lost()
                log.warning("The reaper waits for the database: %s", str(error) or type(error).__name__)
            await asyncio.sleep(self._period)

    async def look(self) -> list[tuple[str, int]]:
        """One look at the leases; the epochs (node id, epoch) that were fenced by it."""
        now: datetime = await self._pool.fetchval(SQL["contact"])
        self._contact.seen(self._monotonic(), now)
        until = self._contact.judge_until()
        if until is None:
            return []
        # `until` travels with the statement: one that a frozen database executes late must judge nobody.
        fenced = [(row["node_id"], row["epoch"]) for row in await self._pool.fetch(SQL["fence"], until)]
        for node_id, epoch in fenced:
            log.warning("Node %s, epoch %d, has lost its lease; its open connections are ended", node_id, epoch)
        return fenced

    async def reap(self) -> int:
        """End what is open of the epochs that are fenced and whose past is folded; how many were ended."""
        total = 0
        for row in await self._pool.fetch(SQL["candidates"]):
            while ended := await self._end(row["shard"], row["node_id"], row["epoch"]):
                total += ended
        return total

    async def _end(self, shard: int, node_id: str, epoch: int) -> int:
        async with self._pool.acquire() as connection, connection.transaction():
            expired_at = await connection.fetchval(SQL["hold_lease"], node_id, epoch)
            if expired_at is None:
                return 0
            open_still = await connection.fetch(SQL["still_open"], shard, node_id, epoch, expired_at, MAX_BATCH)
            if not open_still:
                return 0
            ends = [
                Event(
                    event_id=new_id(),
                    event_type=_LOST.name,
                    schema_version=_LOST.version,
                    source=Source.REAPER.value,
                    occurred_at=row["lost_at"],
                    received_at=row["now"],
                    shard=shard,
                    connection_id=row["connection_id"],
                    node_id=node_id,
                    node_epoch=epoch,
                    client_ref=row["client_ref"],
                    page_id=row["page_id"],
                    reason=Reason.SERVER_LOST.value,
                    payload=encode_payload(ConnectionLost(opened_at=row["opened_at"])),
                )
                for row in open_still
            ]
            # A lane of its own for each transaction: whether one was committed is in the log, not in this process.
            appended = await connection.fetchrow(SQL["append"], shard, new_id(), open_still[0]["now"], rows(ends))
            if appended["status"] != "appended":
                raise asyncpg.RaiseError(f"the reaper's ends were not appended: {appended['status']}")
            await connection.execute(SQL["reaped"], shard, node_id, epoch, appended["head_position"])
        return len(ends)
