"""A circuit breaker, pure: closed, open after failures in a row, one trial after a while.

The pattern is Nygard's ("Release It!", 2007); here it stands around the broadcast loop.
"""

from __future__ import annotations

from enum import Enum


class BreakerState(Enum):
    """``OPEN`` lets nothing through, ``TRIAL`` one call."""

    CLOSED = "closed"
    TRIAL = "half_open"
    OPEN = "open"


class Breaker:
    """``now`` is the monotonic clock in seconds."""

    def __init__(self, failures: int, seconds: float) -> None:
        """``failures`` in a row open it; after ``seconds`` one trial is let through."""
        self._limit = failures
        self._seconds = seconds
        self._until = 0.0
        self.failures = 0
        self.state = BreakerState.CLOSED

    def wait(self, now: float) -> float:
        """Seconds until the next call may go through; 0 when it may now."""
        if self.state is BreakerState.OPEN:
            if now < self._until:
                return self._until - now
            self.state = BreakerState.TRIAL
        return 0.0

    def succeeded(self) -> bool:
        """A call went well; returns whether that closed the breaker."""
        was_closed = self.state is BreakerState.CLOSED
        self.failures = 0
        self.state = BreakerState.CLOSED
        return not was_closed

    def failed(self, now: float) -> bool:
        """A call failed; returns whether that opened the breaker (a failed trial opens it again, which is no news)."""
        self.failures += 1
        was_closed = self.state is BreakerState.CLOSED
        if was_closed and self.failures < self._limit:
            return False
        self.state = BreakerState.OPEN
        self._until = now + self._seconds
        return was_closed
