"""Refused handshakes on record, sampled above a rate so that an attack cannot fill the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final
from uuid import UUID

from pulsetrail.close_codes import Reason
from pulsetrail.events import HandshakeRejected
from pulsetrail_service.handshake import Refusal, Request
from pulsetrail_service.recorder import Recorder

PER_SECOND: Final = 10
"""Refusals a second that are recorded one by one; the others are summed up, by reason and status."""


class Rejections:
    """Records refusals; ``tick`` writes the sums of a second that is over."""

    def __init__(self, recorder: Recorder, clock: Callable[[], float]) -> None:
        self._recorder = recorder
        self._clock = clock
        self._second = 0
        self._recorded = 0
        self._summed: Counter[tuple[Reason, int]] = Counter()

    def record(self, refusal: Refusal, request: Request, client_ref: UUID | None) -> None:
        """One handshake was refused."""
        self.tick(self._clock())
        if self._recorded >= PER_SECOND:
            self._summed[refusal.reason, refusal.status] += 1
            return
        self._recorded += 1
        rejected = HandshakeRejected(
            phase=refusal.phase,
            status=refusal.status,
            address_prefix=request.prefix,
            origin=None if request.origin is None else printable(request.origin, 128),
            detail=refusal.detail,
        )
        self._recorder.handshake_rejected(rejected, refusal.reason, client_ref, refusal.close_code)

    def tick(self, now: float) -> None:
        """Write the sums, if their second is over."""
        if int(now) == self._second:
            return
        self._second, self._recorded = int(now), 0
        for (reason, status), count in self._summed.items():
            rejected = HandshakeRejected(status=status, count=count, detail="summed up")
            self._recorder.handshake_rejected(rejected, reason, None, None)
        self._summed.clear()


def printable(text: str, length: int) -> str:
    """A client's text as it may be stored: without control characters, and short."""
    return "".join(char for char in text[:length] if char.isprintable())
