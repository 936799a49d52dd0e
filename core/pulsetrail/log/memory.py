"""The log in memory: the same promises without a database, for tests and trials. Nothing survives the process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

import msgspec

from pulsetrail.errors import ClockSkew, LaneGap, LogUnavailable
from pulsetrail.events import TERMINAL, Event, RecordedEvent, now_us
from pulsetrail.identity import ClientIdentity
from pulsetrail.log import MAX_BATCH, MAX_SKEW_US, Appended, Batch, Cursor, Deployment, FencedEpoch, LeaseState
from pulsetrail.log.storable import in_range, is_json_object, page_seqs, repair, substitute

_FIRST_LEASE_US: Final = 60_000_000
"""Lease of a node whose first connection reaches the log before the node itself does."""


class _Lease:
    def __init__(self, expires_at: int) -> None:
        self.expires_at = expires_at
        self.fenced = False


class MemoryLog:
    """``Log`` in lists and dictionaries. ``clock`` is "the database's" clock, in µs."""

    def __init__(self, *, shards: int = 4, key: bytes = bytes(32), clock: Callable[[], int] = now_us) -> None:
        self._deployment = Deployment(shards, key)
        self._clock = clock
        self._events: list[list[RecordedEvent]] = [[] for _ in range(shards)]
        self._lanes: dict[tuple[int, UUID], int] = {}
        self._pages: set[tuple[int, str, int]] = set()
        self._leases: dict[tuple[str, int], _Lease] = {}
        self._appended = asyncio.Event()
        self._closed = False
        self.identities: dict[UUID, ClientIdentity] = {}
        self.dead_letters: list[Event] = []
        """Events whose payload the log could not hold, as they came."""

    async def deployment(self) -> Deployment:
        self._answer()
        return self._deployment

    async def append(self, batch: Batch) -> Appended:
        self._answer()
        if len(batch.events) > MAX_BATCH:
            raise ValueError(f"a batch holds at most {MAX_BATCH} events, not {len(batch.events)}")
        if not 0 <= batch.shard < self._deployment.shards:
            raise ValueError(f"there is no shard {batch.shard}")
        key = (batch.shard, batch.producer_id)
        last_seq = self._lanes.get(key, 0)
        if not batch.events:
            return Appended(last_seq, 0, 0, self._head(batch.shard))
        skew = self._clock() - batch.steady_now_us
        if abs(skew) > MAX_SKEW_US:
            raise ClockSkew(skew / 1_000_000)
        if batch.first_seq > last_seq + 1 and not batch.fill_hole:
            raise LaneGap(last_seq, batch.first_seq)
        fresh = [self._held(event) for event in batch.events[max(last_seq - batch.first_seq + 1, 0) :]]
        stored = self._store(batch.shard, fresh)
        self._lanes[key] = max(last_seq, batch.first_seq + len(batch.events) - 1)
        if stored:
            self._appended.set()
            self._appended = asyncio.Event()
        return Appended(self._lanes[key], stored, len(batch.events) - stored, self._head(batch.shard))

    def _store(self, shard: int, events: Sequence[Event]) -> int:
        recorded = self._events[shard]
        recorded_at = max(self._clock(), self._head(shard).recorded_at + 1)
        before = len(recorded)
        position = self._head(shard).position
        for event, seq in zip(events, page_seqs(events) or [None] * len(events), strict=True):
            if seq is not None and event.page_id is not None:
                if (shard, event.page_id, seq) in self._pages:
                    continue
                self._pages.add((shard, event.page_id, seq))
            position += 1
            recorded.append(RecordedEvent(position, recorded_at, self._settled(event)))
        return len(recorded) - before

    def _held(self, event: Event) -> Event:
        """The event as a database would have taken it."""
        repaired = repair(event)
        if not is_json_object(repaired.payload):
            self.dead_letters.append(event)
            repaired = substitute(repaired)
        occurred_at, received_at = in_range([repaired.occurred_at, repaired.received_at])
        return msgspec.structs.replace(repaired, occurred_at=occurred_at, received_at=received_at)

    def _settled(self, event: Event) -> Event:
        """Only an epoch that still holds its lease may end a connection."""
        if event.node_id is None or event.node_epoch is None:
            return event
        lease = self._leases.get((event.node_id, event.node_epoch))
        if event.event_type == "connection.opened" and lease is None:
            self._leases[event.node_id, event.node_epoch] = _Lease(self._clock() + _FIRST_LEASE_US)
        if event.event_type not in TERMINAL or event.source == "reaper" or lease is None or not lease.fenced:
            return event
        payload = {**msgspec.json.decode(event.payload), "reported_as": event.event_type}
        return msgspec.structs.replace(
            event, event_type="connection.end_reported_late", payload=msgspec.json.encode(payload)
        )

    async def lane(self, shard: int, producer_id: UUID) -> int:
        self._answer()
        return self._lanes.get((shard, producer_id), 0)

    async def remember(self, identities: Sequence[ClientIdentity]) -> None:
        self._answer()
        for identity in identities:
            known = self.identities.get(identity.client_ref)
            if known is None or identity.subject is not None:
                self.identities[identity.client_ref] = identity

    async def head(self, shard: int) -> Cursor:
        self._answer()
        return self._head(shard)

    def _head(self, shard: int) -> Cursor:
        recorded = self._events[shard]
        return Cursor(recorded[-1].position, recorded[-1].recorded_at) if recorded else Cursor()

    async def read_after(self, shard: int, cursor: Cursor, limit: int) -> list[RecordedEvent]:
        """See ``Log.read_after``. Nothing is missed because a list has no gaps and one task appends at a time."""
        self._answer()
        return self._events[shard][cursor.position : cursor.position + limit]

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  # a poll's period, not a deadline
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._appended.wait()

    async def renew_lease(self, node_id: str, epoch: int, seconds: float) -> LeaseState:
        self._answer()
        expires_at = self._clock() + round(seconds * 1_000_000)
        lease = self._leases.setdefault((node_id, epoch), _Lease(expires_at))
        if not lease.fenced:
            lease.expires_at = expires_at
        return LeaseState(lease.fenced, lease.expires_at)

    async def release_lease(self, node_id: str, epoch: int) -> None:
        self._answer()
        lease = self._leases.get((node_id, epoch))
        if lease is not None and not lease.fenced:
            del self._leases[node_id, epoch]

    async def fence_expired(self) -> list[FencedEpoch]:
        self._answer()
        now = self._clock()
        heads = tuple(self._head(shard).position for shard in range(self._deployment.shards))
        fenced = []
        for (node_id, epoch), lease in sorted(self._leases.items()):
            if not lease.fenced and lease.expires_at < now:
                lease.fenced = True
                fenced.append(FencedEpoch(node_id, epoch, heads))
        return fenced

    async def close(self) -> None:
        self._closed = True

    def _answer(self) -> None:
        if self._closed:
            raise LogUnavailable("the log is closed")
