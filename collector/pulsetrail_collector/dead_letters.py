"""Batches that could not be read, kept for a look at them: a bounded queue in front of the table ``dead_letter``.

The reply never waits for it. While the database is away the queue fills, and what does not fit is counted and gone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

from pulsetrail.errors import LogUnavailable
from pulsetrail.identity import new_id
from pulsetrail.metrics import PipelineMetrics

STAGE: Final = "collector"
MAX_LETTERS: Final = 200
MAX_BYTES: Final = 1 << 20
PAUSE_SECONDS: Final = 5.0
"""Between two writes: with ``MAX_BYTES`` it bounds what hostile senders can make the database store."""


class DeadLetter(NamedTuple):
    """A row of ``dead_letter``; times in microseconds."""

    letter_id: UUID
    received_at: int
    stage: str
    reason: str
    raw: bytes


Sink = Callable[[Sequence[DeadLetter]], Awaitable[None]]
"""Writes rows; raises ``LogUnavailable`` when it cannot now."""


class DeadLetters:
    """The queue; ``put`` on the event loop, ``run`` as a task."""

    def __init__(self, metrics: PipelineMetrics, *, max_letters: int = MAX_LETTERS, max_bytes: int = MAX_BYTES) -> None:
        self._metrics = metrics
        self._max_letters = max_letters
        self._max_bytes = max_bytes
        self._waiting: deque[DeadLetter] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, received_at: int, reason: str, raw: bytes) -> None:
        """Keep a batch if there is room for it."""
        if len(self._waiting) >= self._max_letters or self._bytes + len(raw) > self._max_bytes:
            self._metrics.collector_events("dead_letter_dropped")
            return
        self._waiting.append(DeadLetter(new_id(), received_at, STAGE, reason, raw))
        self._bytes += len(raw)
        self._filled.set()

    async def run(self, sink: Sink, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        """Move what waits to ``sink`` until cancelled."""
        while True:
            await self._filled.wait()
            letters = list(self._waiting)
            try:
                await sink(letters)
            except LogUnavailable:
                pass  # they stay, and are tried again
            else:
                for _ in letters:
                    self._bytes -= len(self._waiting.popleft().raw)
                if not self._waiting:
                    self._filled.clear()
            await asyncio.sleep(pause_seconds)
