"""Rate limits in the notation of ``limits``, counted in memory.

``limits`` brings the notation and its arithmetic. Its in-memory storage is not used: it starts a thread within 10 ms of
a hit, reads the wall clock, which jumps, and keeps an object per hit. Here a key costs two counters: the sliding-window
counter, which weighs the previous window by the part of it that is still in sight (``limits`` has the same strategy).

For the event loop's thread only.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from limits import parse_many

MAX_KEYS = 65_536
"""Keys remembered at a time; beyond it the one that was quiet the longest is forgotten."""


class _Window:
    """At most ``amount`` hits a key within ``seconds``."""

    __slots__ = ("_clock", "_counts", "amount", "max_keys", "seconds")

    def __init__(self, amount: int, seconds: float, max_keys: int, clock: Callable[[], float]) -> None:
        self.amount = amount
        self.seconds = seconds
        self.max_keys = max_keys
        self._clock = clock
        self._counts: OrderedDict[str, tuple[int, int, int]] = OrderedDict()  # key: window's number, hits, hits before

    def _look(self, key: str, now: float) -> tuple[int, int, int]:
        current = int(now // self.seconds)
        number, hits, before = self._counts.get(key, (current, 0, 0))
        if number == current:
            return number, hits, before
        return current, 0, hits if number == current - 1 else 0

    def wait(self, key: str) -> float:
        """Seconds until one more hit is allowed; 0 when it is now."""
        now = self._clock()
        number, hits, before = self._look(key, now)
        elapsed = now - number * self.seconds
        if before * (1 - elapsed / self.seconds) + hits + 1 <= self.amount:
            return 0.0
        if hits + 1 <= self.amount:  # enough of the previous window has to move out of sight
            return self.seconds * (1 - (self.amount - hits - 1) / before) - elapsed
        return self.seconds - elapsed + self.seconds * (1 - (self.amount - 1) / max(hits, 1))  # 0/minute allows nothing

    def take(self, key: str) -> None:
        number, hits, before = self._look(key, self._clock())
        self._counts[key] = (number, hits + 1, before)
        self._counts.move_to_end(key)
        if len(self._counts) > self.max_keys:
            self._counts.popitem(last=False)

    def __len__(self) -> int:
        return len(self._counts)


class RateLimiter:
    """A limit over everything and one for each key, such as an address prefix; memory is bounded by ``max_keys``."""

    def __init__(
        self,
        notation: str,
        notation_per_key: str,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Each notation is that of ``limits``, such as ``1000/minute`` or ``10/second;200/minute``.

        Raises:
            ValueError: a notation is malformed.
        """
        self._total = [_Window(item.amount, item.get_expiry(), 1, clock) for item in parse_many(notation)]
        self._per_key = [
            _Window(item.amount, item.get_expiry(), max_keys, clock) for item in parse_many(notation_per_key)
        ]

    def hit(self, key: str) -> int | None:
        """Count one request of ``key``; ``None`` when it is within the limits, else milliseconds to wait, at least 1.

        A refused request is not counted anywhere, so one key above its limit does not use up the others' share.
        """
        wait = 0.0
        for window in self._per_key:
            wait = max(wait, window.wait(key))
        for window in self._total:
            wait = max(wait, window.wait(""))
        if wait > 0:
            return max(1, math.ceil(wait * 1000))
        for window in self._per_key:
            window.take(key)
        for window in self._total:
            window.take("")
        return None

    @property
    def keys(self) -> int:
        """How many keys are remembered."""
        return max(map(len, self._per_key))
