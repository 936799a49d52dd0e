"""The log: the append-only ``events`` table, and what surrounds it.

``Log`` is what the rest of the product sees; ``postgres.PostgresLog`` is the real one, ``memory.MemoryLog`` behaves the
same without a database, and one contract suite holds both to it.

Invariants of every log:

- Positions of a shard are gapless from 1, and commit order equals position order. Positions of two shards are never
  compared.
- ``recorded_at`` grows with every append to a shard and is the same for all events of one.
- A producer's rows arrive in the order of their sequence, each once (the *lane*); a page's telemetry is in the log once
  for each ``(page_id, seq)`` (the *page lane*).
- Whatever an event holds, it never blocks the lane it came by (see ``storable``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from pulsetrail.events import Event, RecordedEvent
from pulsetrail.identity import ClientIdentity

MAX_BATCH: Final = 1_000
"""Events of one append, at most: it bounds how long a batch holds the head row."""

MAX_SKEW_US: Final = 5 * 60 * 1_000_000
"""How far the database's clock may be from the shipper's; beyond it append refuses."""

__all__ = [
    "MAX_BATCH",
    "MAX_SKEW_US",
    "Appended",
    "Batch",
    "ClientIdentity",
    "Cursor",
    "Deployment",
    "FencedEpoch",
    "LeaseState",
    "Log",
]


class Cursor(NamedTuple):
    """The place of an event in its shard; ``Cursor()`` is before the first one."""

    position: int = 0
    recorded_at: int = 0
    """In µs; a lower bound that keeps older partitions out of a read."""


class Batch(NamedTuple):
    """Consecutive rows of one producer's lane, all of one shard."""

    shard: int
    producer_id: UUID
    first_seq: int
    """Sequence of ``events[0]`` in the lane; they count from 1."""
    events: Sequence[Event]
    steady_now_us: int
    """The shipper's own clock, one that no time server sets: wall clock at its start plus monotonic time since."""
    fill_hole: bool = False
    """The rows between the lane's end and ``first_seq`` are gone for good: jump over them."""


class Appended(NamedTuple):
    """What an append did; also the answer to a batch that was in the log already."""

    last_seq: int
    """Where the lane ends now."""
    stored: int
    duplicates: int
    """Rows that the lane or a page lane already had."""
    head: Cursor


class LeaseState(NamedTuple):
    """A node's right to end its connections itself."""

    fenced: bool
    """The reaper has taken the epoch's connections over: close the sockets with 4203 and take a new epoch."""
    expires_at: int


class FencedEpoch(NamedTuple):
    """An epoch that lost its lease, and each shard's head at that moment, by shard."""

    node_id: str
    epoch: int
    heads: tuple[int, ...]


class Deployment(NamedTuple):
    """What the first migration fixed for ever."""

    shards: int
    client_key: bytes
    """The key of ``identity.client_ref``."""


class Log(Protocol):
    """Every method raises ``LogUnavailable`` when the database cannot be reached or does not answer in time; nothing is
    known then of the call's effect, and all of them may be repeated."""

    async def deployment(self) -> Deployment:
        """Shards and key."""

    async def append(self, batch: Batch) -> Appended:
        """Store a batch, exactly once however often it is sent.

        Raises:
            LaneGap: rows between the lane's end and the batch are missing; send those first.
            ClockSkew: the database's clock and ``steady_now_us`` differ by more than ``MAX_SKEW_US``.
            ValueError: the batch is longer than ``MAX_BATCH`` or names a shard that is not there.
        """

    async def lane(self, shard: int, producer_id: UUID) -> int:
        """The last sequence of a producer that the log has; 0 if none."""

    async def remember(self, identities: Sequence[ClientIdentity]) -> None:
        """Keep who a ``client_ref`` is. A later subject replaces an earlier one; an erased identity stays erased."""

    async def head(self, shard: int) -> Cursor:
        """The place of the shard's last event."""

    async def read_after(self, shard: int, cursor: Cursor, limit: int) -> list[RecordedEvent]:
        """Up to ``limit`` events after ``cursor``, in order, none skipped.

        A reader that starts from ``Cursor()`` gets the oldest event that retention has left.

        Raises:
            LogHole: the events do not continue where the cursor ends.
        """

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  # a poll's period, not a deadline
        """Return when something was probably appended, at the latest after ``timeout`` seconds."""

    async def renew_lease(self, node_id: str, epoch: int, seconds: float) -> LeaseState:
        """Hold the lease for ``seconds`` from the database's now; a fenced epoch stays fenced."""

    async def release_lease(self, node_id: str, epoch: int) -> None:
        """Give the lease back. Only for a node whose last event is in the log: nobody ends its connections after it."""

    async def fence_expired(self) -> list[FencedEpoch]:
        """Fence each epoch whose lease has run out, and note every shard's head with it.

        For a reaper that has been in contact with the database for a full lease itself; otherwise an outage of the
        database would cost every node its lease.
        """

    async def close(self) -> None:
        """Let go of every connection."""
