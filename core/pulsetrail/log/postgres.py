"""The log in Postgres. The SQL is in ``queries.sql``; what appends, in the migrations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, Self
from uuid import UUID

import asyncpg

from pulsetrail.errors import ClockSkew, LaneGap, LogHole
from pulsetrail.events import CATALOGUE, Event, EventClass, RecordedEvent, encode_event
from pulsetrail.identity import ClientIdentity, shard_of
from pulsetrail.log import MAX_BATCH, Appended, Batch, Cursor, Deployment, FencedEpoch, LeaseState
from pulsetrail.log.connections import Connections, open_connection
from pulsetrail.log.doorbell import Doorbell
from pulsetrail.log.storable import holdable, repair, rows, substitute
from pulsetrail.observer import NullObserver, PipelineObserver
from pulsetrail.statements import load_statements

_SQL: Final = load_statements(__package__, "queries.sql")


class PostgresLog:
    """``Log`` on asyncpg. Connections are opened when they are needed and made anew when they break.

    Every call answers within ``deadline`` seconds, with ``LogUnavailable`` if it must, also when the server is frozen.
    """

    def __init__(
        self,
        url: str,
        *,
        application_name: str,
        role: str | None = None,
        size: int = 4,
        connect_timeout: float = 5.0,
        deadline: float = 10.0,
        observer: PipelineObserver | None = None,
    ) -> None:
        self._connections = Connections(
            url,
            application_name=application_name,
            role=role,
            size=size,
            connect_timeout=connect_timeout,
            deadline=deadline,
        )
        self._doorbell = Doorbell(
            send=self._notify,
            connect=lambda: open_connection(
                url, application_name=f"{application_name} doorbell", connect_timeout=connect_timeout, deadline=deadline
            ),
        )
        self._observer = observer or NullObserver()
        self._deployment: Deployment | None = None

    @classmethod
    async def connect(cls, url: str, *, application_name: str, role: str | None = None, **options: Any) -> Self:
        """A log whose database has answered once.

        Raises:
            LogUnavailable: it did not.
        """
        log = cls(url, application_name=application_name, role=role, **options)
        await log.deployment()
        return log

    async def deployment(self) -> Deployment:
        if self._deployment is None:
            async with self._connections.one() as connection:
                self._deployment = Deployment(*await connection.fetchrow(_SQL["deployment"]))
        return self._deployment

    async def append(self, batch: Batch) -> Appended:
        if len(batch.events) > MAX_BATCH:
            raise ValueError(f"a batch holds at most {MAX_BATCH} events, not {len(batch.events)}")
        if not 0 <= batch.shard < (await self.deployment()).shards:
            raise ValueError(f"there is no shard {batch.shard}")
        if not batch.events:
            return Appended(await self.lane(batch.shard, batch.producer_id), 0, 0, await self.head(batch.shard))
        try:
            appended = await self._append(batch, batch.events)
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError, ValueError):
            appended = await self._append_what_can_be_held(batch)
        if appended.stored:
            self._doorbell.ring()
        return appended

    async def _append(self, batch: Batch, events: Sequence[Event]) -> Appended:
        taken = rows(events)
        async with self._connections.one() as connection:
            status, last_seq, stored, position, recorded_at, skew_us = await connection.fetchrow(
                _SQL["append"],
                batch.shard,
                batch.producer_id,
                batch.first_seq,
                batch.steady_now_us,
                batch.fill_hole,
                taken,
            )
        if status == "lane_gap":
            raise LaneGap(last_seq, batch.first_seq)
        if status == "clock_skew":
            raise ClockSkew(skew_us / 1_000_000)
        return Appended(last_seq, stored, len(events) - stored, Cursor(position, recorded_at))

    async def _append_what_can_be_held(self, batch: Batch) -> Appended:
        """The batch again, with what Postgres refuses repaired or replaced, as ``storable`` says."""
        events = [repair(event) for event in batch.events]
        async with self._connections.one() as connection:
            refused = await connection.fetchval(
                _SQL["unstorable_payloads"], [event.payload.decode(errors="replace") for event in events]
            )
            indexes = [number - 1 for number in refused]
            await connection.execute(
                _SQL["bury"],
                batch.shard,
                [events[index].event_id for index in indexes],
                ["the payload is no JSON object that Postgres can hold"] * len(indexes),
                [encode_event(batch.events[index]) for index in indexes],
            )
        for index in indexes:
            events[index] = substitute(events[index])
        appended = await self._append(batch, events)
        if appended.stored:
            for event_class, count in Counter(_class_of(batch.events[index]) for index in indexes).items():
                self._observer.events_dropped(event_class, "unstorable", count)
        return appended

    async def lane(self, shard: int, producer_id: UUID) -> int:
        async with self._connections.one() as connection:
            return await connection.fetchval(_SQL["lane"], shard, producer_id) or 0

    async def remember(self, identities: Sequence[ClientIdentity]) -> None:
        # In one order everywhere, so that two processes that remember the same clients do not lock each other out.
        rows = sorted({identity.client_ref: identity for identity in identities}.values())
        if not rows:
            return
        shards = (await self.deployment()).shards
        async with self._connections.one() as connection:
            await connection.execute(
                _SQL["remember"],
                [shard_of(row.client_ref, shards) for row in rows],
                [row.client_ref for row in rows],
                [holdable(row.client_id) for row in rows],
                [None if row.subject is None else holdable(row.subject) for row in rows],
            )

    async def head(self, shard: int) -> Cursor:
        async with self._connections.one() as connection:
            return Cursor(*await connection.fetchrow(_SQL["head"], shard))

    async def read_after(self, shard: int, cursor: Cursor, limit: int) -> list[RecordedEvent]:
        """See ``Log.read_after``. Why ``position > cursor`` misses nothing:

        An append takes its positions by updating the shard's row of ``log_shard`` and holds that row's lock until it
        has committed or rolled back. So the next append gets its positions only after the one before is visible, or
        after its positions were taken back: commit order is position order, and there are no gaps. When a reader sees
        position n, everything before n was committed before it, and nothing below n can appear later. A sequence would
        not give this, nor would a transaction's id or a time: those are drawn before the commit.

        ``recorded_at >= cursor.recorded_at`` takes nothing away, because it never goes back within a shard; it keeps
        Postgres from probing every partition. And the reader does not hope: it checks that the positions go on one by
        one from its cursor, and says so if they do not.
        """
        async with self._connections.one() as connection:
            after = cursor.position
            if after == 0:
                # What retention is about to drop may still be there; nobody starts on it.
                after = await connection.fetchval(_SQL["truncated_before"], shard) - 1
            rows = await connection.fetch(_SQL["read_after"], shard, after, cursor.recorded_at, limit)
        # From its third column on, a row is an Event's fields in their order.
        recorded = [RecordedEvent(row[0], row[1], Event(*row[2:])) for row in rows]
        for expected, event in enumerate(recorded, after + 1):
            if event.position != expected:
                raise LogHole(shard, expected, event.position)
        return recorded

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  # a poll's period, not a deadline
        await self._doorbell.wait(timeout)

    @property
    def hears_the_bell(self) -> bool:
        """Whether a wait ends with an append elsewhere; otherwise it is a poll."""
        return self._doorbell.listening

    async def renew_lease(self, node_id: str, epoch: int, seconds: float) -> LeaseState:
        async with self._connections.one() as connection:
            return LeaseState(*await connection.fetchrow(_SQL["renew_lease"], node_id, epoch, seconds))

    async def release_lease(self, node_id: str, epoch: int) -> None:
        async with self._connections.one() as connection:
            await connection.execute(_SQL["release_lease"], node_id, epoch)

    async def fence_expired(self) -> list[FencedEpoch]:
        async with self._connections.one() as connection:
            rows = await connection.fetch(_SQL["fence_expired"])
        return [FencedEpoch(node_id, epoch, tuple(heads)) for node_id, epoch, heads in rows]

    async def close(self) -> None:
        await self._doorbell.close()
        await self._connections.close()

    async def _notify(self) -> None:
        async with self._connections.one() as connection:
            await connection.execute(_SQL["ring"])


def _class_of(event: Event) -> str:
    row = CATALOGUE.get(event.event_type)
    return row.event_class if row is not None else EventClass.DETAIL
