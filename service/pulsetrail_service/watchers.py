"""Who wants to see the service's own live figures: without anybody they are not published, for an update of some
kilobytes a second to every client of an application is nothing that it asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

POLL_SECONDS: Final = 60.0
"""How long somebody who polled for updates counts: a client that fell back to polling comes every 15 s."""


class Watchers:
    """Connections whose handshake said ``watch=telemetry``, and whoever polls; for one process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._polled_until = 0.0
        self.connections = 0

    def polled(self) -> None:
        """Somebody asked for the updates over HTTP."""
        self._polled_until = self._clock() + POLL_SECONDS

    def count(self) -> int:
        """How many watch now."""
        return self.connections + (self._clock() < self._polled_until)
