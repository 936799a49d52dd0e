"""The life of one connection as a state machine without I/O.

It is told what happened and when, and answers with events to record and, at most, one thing to do. The socket code
moves bytes and calls it; every rule about heartbeats, misses, staleness and idleness is here.

::

    OPEN ──misses──▶ STALE ──answer──▶ OPEN
      │                      │
      │                      ├─ the kernel shows a dead path ──▶ end with 4200
      │                      └─ no answer for IDLE_TIMEOUT ────▶ end with 4201
      └──────────── ended ───┴──▶ ENDED

A heartbeat that is unanswered when the next is due is a miss. What a miss means is known a moment later: the gateway
sends a WebSocket ping with it, and ``probed`` looks at all three layers (kernel, browser, page) ``PROBE_WAIT``
seconds after. Only then is the miss recorded, with the time at which it happened.

``now`` is the monotonic clock in seconds; ``at`` the wall clock in microseconds.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import Enum
from typing import Final, NamedTuple

from pulsetrail.close_codes import Reason
from pulsetrail.events import (
    LATENCY_BOUNDS_US,
    ConnectionClosed,
    ConnectionStale,
    Evidence,
    HeartbeatMissed,
    HeartbeatRecovered,
    LatencySampled,
    Layers,
    Payload,
    TcpInfo,
)
from pulsetrail.evidence import CLASSIFIER_VERSION, classify, is_dead_path, kernel_acknowledges

LATENCY_WINDOW: Final = 300.0
"""Seconds that one ``latency.sampled`` covers at most."""

_RECENT: Final = 5
"""Round trips kept as evidence."""


class Limits(NamedTuple):
    """The figures of a deployment; times in seconds."""

    miss_limit: int = 2
    idle_timeout: float = 600.0
    probe_wait: float = 2.0


class State(Enum):
    """Where a connection is in its life."""

    OPEN = "open"
    STALE = "stale"
    ENDED = "ended"


class Draft(NamedTuple):
    """An event without its envelope. ``numbered`` events take the connection's next ``connection_seq``."""

    event_type: str
    at: int
    payload: Payload
    reason: Reason | None = None
    close_code: int | None = None
    numbered: bool = True


class Miss(NamedTuple):
    """A miss whose layers are not known yet."""

    heartbeat_seq: int
    at: int
    silent_ms: int
    pinged_at: float


class Lifecycle:
    """One connection; see the module for the states and the clocks."""

    __slots__ = (
        "_buckets",
        "_count",
        "_limits",
        "_max_us",
        "_min_us",
        "_offset_ms",
        "_pending_seq",
        "_ping_rtt_us",
        "_sum_us",
        "last_answer",
        "last_frame",
        "layers",
        "miss",
        "misses",
        "opened_at",
        "recent_us",
        "state",
        "window_ends",
    )

    def __init__(self, limits: Limits, now: float, at: int) -> None:
        self._limits = limits
        self.state = State.OPEN
        self.opened_at = at
        self.last_answer = now
        """When the page last said anything."""
        self.last_frame = now
        """When anything last came, a pong of the browser's included."""
        self.misses = 0
        self.miss: Miss | None = None
        self.layers: Layers | None = None
        self.recent_us: tuple[int, ...] = ()
        self._pending_seq: int | None = None
        self._ping_rtt_us: int | None = None
        self.window_ends = now + LATENCY_WINDOW
        """When the next summary of round trips is due."""
        self._buckets: list[int] | None = None
        self._count = self._sum_us = self._min_us = self._max_us = 0
        self._offset_ms: int | None = None

    # --- heartbeats ---

    def beat(self, seq: int, now: float, at: int) -> tuple[Miss | None, bool]:
        """A heartbeat ``seq`` goes out now. Returns the miss of the one before, if it was one, and whether the idle
        timeout has passed."""
        missed = None
        if self._pending_seq is not None:
            self.misses += 1
            silent_ms = int((now - self.last_frame) * 1000)
            missed = self.miss = Miss(self._pending_seq, at, silent_ms, now)
            self._ping_rtt_us = None
        self._pending_seq = seq
        return missed, now - self.last_answer >= self._limits.idle_timeout

    def browser_ponged(self, now: float) -> None:
        """The WebSocket ping of a miss was answered."""
        self.last_frame = now
        if self.miss is not None and self._ping_rtt_us is None:
            self._ping_rtt_us = int((now - self.miss.pinged_at) * 1e6)

    def probed(self, tcp: TcpInfo | None, now: float) -> tuple[list[Draft], bool]:
        """The layers are known: returns the miss (and that the connection is stale), and whether the path is dead."""
        miss, self.miss = self.miss, None
        if miss is None or self.state is State.ENDED:
            return [], False
        layers = self.layers = Layers(kernel=kernel_acknowledges(tcp), ping=self._ping_rtt_us is not None, page=False)
        drafts = [
            Draft(
                "heartbeat.missed",
                miss.at,
                HeartbeatMissed(
                    heartbeat_seq=miss.heartbeat_seq,
                    misses=self.misses,
                    layers=layers,
                    silent_ms=miss.silent_ms,
                    ping_rtt_us=self._ping_rtt_us,
                    tcp=tcp,
                ),
            )
        ]
        if self.misses < self._limits.miss_limit:
            return drafts, False
        dead = is_dead_path(tcp)
        if self.state is State.OPEN:
            self.state = State.STALE
            stale = ConnectionStale(
                misses=self.misses, layers=layers, silent_ms=miss.silent_ms, dead_path=dead, tcp=tcp
            )
            drafts.append(Draft("connection.stale", miss.at, stale))
        return drafts, dead

    def heard(self, now: float) -> None:
        """The page sent a message that is no answer to a heartbeat."""
        self.last_frame = self.last_answer = now

    def answered(self, now: float, at: int, rtt_us: int | None, offset_ms: int | None) -> list[Draft]:
        """The page answered a heartbeat; ``rtt_us`` when it said which, ``offset_ms`` (server minus client) when it
        sent its clock."""
        silent_ms = int((now - self.last_answer) * 1000)
        self.last_frame = self.last_answer = now
        self._pending_seq = None
        if rtt_us is not None:
            self._sample(rtt_us, offset_ms)
        if not self.misses:
            return []
        drafts = self._forget_probe()
        drafts.append(Draft("heartbeat.recovered", at, HeartbeatRecovered(misses=self.misses, silent_ms=silent_ms)))
        self.misses = 0
        self.layers = None
        self.state = State.OPEN
        return drafts

    def _forget_probe(self) -> list[Draft]:
        """Record a miss whose probe is still out with what is known now."""
        miss, self.miss = self.miss, None
        if miss is None:
            return []
        layers = Layers(ping=True if self._ping_rtt_us is not None else None)
        payload = HeartbeatMissed(
            heartbeat_seq=miss.heartbeat_seq,
            misses=self.misses,
            layers=layers,
            silent_ms=miss.silent_ms,
            ping_rtt_us=self._ping_rtt_us,
        )
        return [Draft("heartbeat.missed", miss.at, payload)]

    # --- latency ---

    def _sample(self, rtt_us: int, offset_ms: int | None) -> None:
        if self._buckets is None:
            self._buckets = [0] * (len(LATENCY_BOUNDS_US) + 1)
        self._buckets[bisect_left(LATENCY_BOUNDS_US, rtt_us)] += 1
        if self._count == 0 or rtt_us < self._min_us:
            self._min_us = rtt_us
            self._offset_ms = offset_ms
        self._max_us = max(self._max_us, rtt_us)
        self._sum_us += rtt_us
        self._count += 1
        self.recent_us = (*self.recent_us[1 - _RECENT :], rtt_us)

    def latency(self, now: float, at: int) -> list[Draft]:
        """The summary of the window so far, if anything was sampled in it; another one begins."""
        drafts = []
        if self._count and self._buckets is not None:
            sampled = LatencySampled(
                window_ms=int((now - self.window_ends + LATENCY_WINDOW) * 1000),
                count=self._count,
                min_us=self._min_us,
                max_us=self._max_us,
                sum_us=self._sum_us,
                buckets=self._buckets,
                clock_offset_ms=self._offset_ms,
            )
            drafts.append(Draft("latency.sampled", at, sampled, numbered=False))
        self.window_ends = now + LATENCY_WINDOW
        self._buckets = None
        self._count = self._sum_us = self._min_us = self._max_us = 0
        self._offset_ms = None
        return drafts

    # --- end ---

    def ended(
        self,
        evidence: Evidence,
        decision: Reason | None,
        now: float,
        at: int,
        *,
        draining: bool = False,
        detail: str | None = None,
    ) -> list[Draft]:
        """The socket is gone: the last summary and the terminal event. A second call returns nothing."""
        if self.state is State.ENDED:
            return []
        drafts = [*self._forget_probe(), *self.latency(now, at)]
        self.state = State.ENDED
        why = classify(evidence, decision, draining=draining)
        closed = ConnectionClosed(
            initiator=why.initiator,
            phase=why.phase,
            was_clean=why.was_clean,
            duration_ms=max(0, (at - self.opened_at) // 1000),
            classifier_version=CLASSIFIER_VERSION,
            client_code=evidence.close_received,
            detail=detail,
            evidence=evidence,
        )
        drafts.append(Draft("connection.closed", at, closed, why.reason, why.close_code))
        return drafts
