"""One timer wheel for the heartbeats of all connections.

A connection sits in one slot; each tick serves the next slot, a revolution takes the heartbeat interval. Joining
connections are dealt out slot by slot, so that ten thousand that came at once are still spread evenly. All
heartbeats of a tick share one sequence number and one prepared frame.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

TICK: Final = 0.25
"""Seconds between ticks at most: the precision of everything that the wheel times. Each tick wakes the process up, and
so do the answers to its heartbeats."""

_MIN_SLOTS: Final = 20
_REMEMBERED_REVOLUTIONS: Final = 4

logger = logging.getLogger("pulsetrail.gateway")


class Wheel(Generic[T]):
    """``beat(members, seq, now)`` is called for each slot when its time has come, ``tick(now)`` after each slot."""

    def __init__(
        self,
        interval: float,
        beat: Callable[[list[T], int, float], None],
        tick: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        """``interval`` is the time between two heartbeats of one connection, in seconds."""
        slots = max(_MIN_SLOTS, round(interval / TICK))
        self.step = interval / slots
        self._beat = beat
        self._tick = tick
        self._clock = clock
        self._slots: list[dict[T, None]] = [{} for _ in range(slots)]
        self._cursor = 0
        self._dealt = 0
        self._seq = 0
        self._sent_at: deque[float] = deque(maxlen=slots * _REMEMBERED_REVOLUTIONS)
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def join(self, member: T) -> int:
        """Put a member on the wheel; returns its slot."""
        slot = self._dealt = (self._dealt + 1) % len(self._slots)
        self._slots[slot][member] = None
        return slot

    def leave(self, member: T, slot: int) -> None:
        """Take a member off the wheel; nothing happens if it is not there."""
        self._slots[slot].pop(member, None)

    def sent_at(self, seq: int) -> float | None:
        """When heartbeat ``seq`` went out, while it is remembered."""
        index = seq - (self._seq - len(self._sent_at)) - 1
        return self._sent_at[index] if 0 <= index < len(self._sent_at) else None

    def start(self) -> None:
        """Begin to turn; needs a running event loop."""
        self._due = self._clock() + self.step
        self._timer = asyncio.get_running_loop().call_later(self.step, self._turn)

    def stop(self) -> None:
        """Stand still."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        # A loop that was held up serves the slots it missed, one a turn so that others get their share, and in order:
        # nobody's heartbeat is skipped. After a stop of the whole process the wheel does not race to catch up.
        now = self._clock()
        revolution = self.step * len(self._slots)
        if now - self._due > revolution:
            self._due = now
        try:
            self.turn(now)
        except Exception:
            logger.exception("a heartbeat tick failed")
        self._due += self.step
        self._timer = asyncio.get_running_loop().call_later(max(0.0, self._due - self._clock()), self._turn)

    def turn(self, now: float) -> None:
        """Serve the next slot."""
        self._cursor = (self._cursor + 1) % len(self._slots)
        self._seq += 1
        self._sent_at.append(now)
        members = self._slots[self._cursor]
        if members:
            self._beat(list(members), self._seq, now)
        self._tick(now)
