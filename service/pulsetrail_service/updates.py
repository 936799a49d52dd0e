"""The stream of updates: what is broadcast, its place, and its newest part for clients that come back.

An update's place is ``(stream_epoch, stream_position)``. Positions count from 1 without gaps within an epoch. A client
that reconnects with the place it knows gets exactly what it missed, or is told that this cannot be had: never a part.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import msgspec

from pulsetrail.errors import PulsetrailError
from pulsetrail.events import BroadcastResumed, BroadcastSuspended
from pulsetrail.identity import new_id
from pulsetrail_service.breaker import Breaker
from pulsetrail_service.frames import encode_json, message_frame, text_frame
from pulsetrail_service.hub import Hub

logger = logging.getLogger("pulsetrail.gateway")

_AT_ONCE: Final = 64
"""Updates joined into one write."""


class Update(NamedTuple):
    """One message of the application; ``data`` is JSON."""

    position: int
    topic: str
    data: bytes

    def message(self) -> bytes:
        """The update as the message that clients get."""
        return b'{"type":"update","stream_position":%d,"topic":%b,"data":%b}' % (
            self.position,
            encode_json(self.topic),
            self.data,
        )


class UpdateSource(Protocol):
    """Where updates get their place, and come from in its order."""

    epoch: str

    async def start(self) -> int:
        """Make ready; returns the position of the newest update so far.

        Raises:
            PulsetrailError: not now; it is tried again.
        """

    async def publish(self, topic: str, data: bytes) -> int:
        """Give an update its place; returns its position.

        Raises:
            LogUnavailable: it got none.
        """

    async def read(self, after: int) -> Sequence[Update]:
        """The updates after a position, waiting for the first one; may return none.

        Raises:
            PulsetrailError: they cannot be had now.
        """

    async def close(self) -> None:
        """Let go of what ``start`` took."""


class LocalUpdates:
    """The source of a single process: in memory, without Postgres."""

    def __init__(self, bound: int) -> None:
        """At most ``bound`` updates wait while the broadcast is suspended; beyond that the oldest are given up."""
        self.epoch = new_id().hex
        self._position = 0
        self._pending: deque[Update] = deque(maxlen=bound)
        self._rung = asyncio.Event()

    async def start(self) -> int:
        return self._position

    async def publish(self, topic: str, data: bytes) -> int:
        self._position += 1
        self._pending.append(Update(self._position, topic, data))
        self._rung.set()
        return self._position

    async def read(self, after: int) -> Sequence[Update]:
        await self._rung.wait()
        self._rung.clear()
        updates = tuple(self._pending)
        self._pending.clear()
        return updates

    async def close(self) -> None:
        pass


class Replay(NamedTuple):
    """What a client missed; ``resumed`` is false when that cannot be had, and then ``updates`` is empty."""

    resumed: bool
    updates: Sequence[Update] = ()


class Ring:
    """The newest updates, without gaps."""

    def __init__(self, size: int) -> None:
        self._updates: deque[Update] = deque(maxlen=size)
        self.head = 0
        """Position of the newest update."""

    def start(self, head: int) -> None:
        """Begin after ``head``, whose updates are not here."""
        self._updates.clear()
        self.head = head

    def append(self, update: Update) -> None:
        """The next update; one that does not follow begins the ring anew."""
        if update.position != self.head + 1:
            self._updates.clear()
        self._updates.append(update)
        self.head = update.position

    def after(self, position: int) -> Replay:
        """What came after a position."""
        missed = self.head - position
        if missed < 0 or missed > len(self._updates):
            return Replay(resumed=False)
        if missed == 0:
            return Replay(resumed=True)
        return Replay(resumed=True, updates=list(self._updates)[-missed:])


class BroadcastMetrics(Protocol):
    """Who is told how the broadcast goes."""

    def broadcast_finished(self, seconds: float) -> None:
        """One write to every client took so long."""

    def breaker_changed(self, state: str) -> None:
        """The breaker is now ``closed``, ``half_open`` or ``open``."""


class Broadcaster:
    """Takes updates from the source to the ring and to every client, behind a circuit breaker."""

    def __init__(
        self,
        hub: Hub,
        source: UpdateSource,
        *,
        ring: int,
        breaker: Breaker,
        metrics: BroadcastMetrics,
    ) -> None:
        self._hub = hub
        self._source = source
        self._metrics = metrics
        self.ring = Ring(ring)
        self.breaker = breaker
        self._started = False
        self._suspended_at = 0.0
        metrics.breaker_changed(breaker.state.value)

    @property
    def epoch(self) -> str:
        """The stream's epoch."""
        return self._source.epoch

    async def publish(self, topic: str, data: object) -> int:
        """Broadcast an update; ``data`` is anything that JSON can say. Returns its position.

        Raises:
            LogUnavailable: several workers share the stream and the database is away.
        """
        return await self._source.publish(topic, data if isinstance(data, bytes) else msgspec.json.encode(data))

    def replay(self, epoch: str | None, position: int | None) -> Replay:
        """What a client missed since a place it knows; nothing, and not resumed, for one that knows none."""
        if epoch is None or position is None or epoch != self.epoch:
            return Replay(resumed=False)
        return self.ring.after(position)

    async def run(self) -> None:
        """Broadcast until cancelled; failures suspend it and one trial a while later resumes it."""
        while True:
            await asyncio.sleep(self.breaker.wait(self._hub.clock()))
            try:
                await self._round()
            except Exception as error:
                self._failed(error)
            else:
                self._succeeded()

    async def _round(self) -> None:
        epoch = self._source.epoch
        if not self._started:
            self.ring.start(await self._source.start())
            self._hub.stream_position = self.ring.head
            self._started = True
        updates = await self._source.read(self.ring.head)
        if self._source.epoch != epoch:
            self._started = False  # another stream: what is in the ring is of no use
            return
        for begin in range(0, len(updates), _AT_ONCE):
            self._broadcast(updates[begin : begin + _AT_ONCE])
            await asyncio.sleep(0)

    def _broadcast(self, updates: Sequence[Update]) -> None:
        began = self._hub.clock()
        for update in updates:
            self.ring.append(update)
        frame = b"".join(text_frame(update.message()) for update in updates)
        self._hub.broadcast(frame, len(updates), updates[-1].position)
        self._metrics.broadcast_finished(self._hub.clock() - began)

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, PulsetrailError):
            logger.exception("the broadcast failed")
        now = self._hub.clock()
        opened = self.breaker.failed(now)
        self._metrics.breaker_changed(self.breaker.state.value)
        if opened:
            self._suspended_at = now
            suspended = BroadcastSuspended(cause=type(error).__name__, failures=self.breaker.failures)
            self._hub.recorder.of_node("broadcast.suspended", suspended)
            self._hub.tell(message_frame({"type": "degraded", "reason": "broadcast_suspended"}))

    def _succeeded(self) -> None:
        if self.breaker.succeeded():
            self._metrics.breaker_changed(self.breaker.state.value)
            suspended_ms = int((self._hub.clock() - self._suspended_at) * 1000)
            self._hub.recorder.of_node("broadcast.resumed", BroadcastResumed(suspended_ms=suspended_ms))
            self._hub.tell(message_frame({"type": "restored"}))
