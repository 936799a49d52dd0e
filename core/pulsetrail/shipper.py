"""From the journal to the log: in order, one batch in flight per shard, until all of it is there.

A batch whose fate is unknown is simply sent again: the log's lane knows what it has. What ships first, within a shard,
is what the oldest process left. The journal keeps shipped rows for a while, and the shipper compares its lanes with the
log's after every reconnection and once a minute, so that a failover that lost the newest commits is made good.

Nothing wedges a lane. What an event holds is the log's concern (``log.storable``). Rows that are gone for good are
replaced by an ``events.dropped`` event in the very place of the lane where they belong, so that it too is there exactly
once. Batches shrink while they fail, so that a slow database gets some of the way.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pulsetrail.errors import ClockSkew, JournalError, LaneGap, LogUnavailable, PulsetrailError
from pulsetrail.events import Event, now_us
from pulsetrail.journal import Journal, PendingBatch
from pulsetrail.journal.shedding import dropped_event
from pulsetrail.log import Batch, Log
from pulsetrail.observer import NullObserver, PipelineObserver

BATCH_ROWS: Final = 500
"""Of the log's 1,000: preparing a batch holds the event loop, and for every shard in turn. Measured with a backlog in
four shards: the loop is 11 ms late at the 99th percentile, with 250 rows 8 at a rate that is 5 % lower."""
PACE_SECONDS: Final = 0.025
"""Least time between two batches of a shard that were not full: the first event of a quiet time goes at once, a busy
time gathers."""
COMPARE_SECONDS: Final = 60.0
RETRY_FIRST_SECONDS: Final = 0.05
RETRY_MAX_SECONDS: Final = 2.0
_IDENTITIES: Final = 1_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ShipperState:
    """How shipping goes, for ``/readyz``."""

    behind: int
    """Events that wait in the journal."""
    error: str | None
    """Why the last attempt of some shard failed; ``None`` while all is well."""
    clock_skew_seconds: float | None
    """Set while the log refuses for the clocks' sake."""


class SteadyClock:
    """The wall clock as it was at the start, moved on by monotonic time: no time server sets it."""

    def __init__(self) -> None:
        self._offset_us = now_us() - time.monotonic_ns() // 1_000

    def __call__(self) -> int:
        """Microseconds since 1970."""
        return self._offset_us + time.monotonic_ns() // 1_000


class Shipper:
    """Ships one journal. ``run`` it in a task, cancel it to stop: what is not shipped stays in the journal."""

    def __init__(
        self,
        journal: Journal,
        log: Log,
        *,
        observer: PipelineObserver | None = None,
        clock: Callable[[], int] | None = None,
        compare_seconds: float = COMPARE_SECONDS,
    ) -> None:
        self._journal = journal
        self._append_to = log
        self._observer = observer or NullObserver()
        self._clock = clock or SteadyClock()
        self._compare_seconds = compare_seconds
        self._wake: dict[int, asyncio.Event] = {}
        self._new_shard = asyncio.Event()
        self._settled: set[int] | None = None
        self._progress = asyncio.Event()
        self._errors: dict[int, PulsetrailError | Exception] = {}
        self._identities = asyncio.Lock()
        self._identities_retry_at = 0.0

    @property
    def state(self) -> ShipperState:
        """How it goes."""
        errors = list(self._errors.values())
        return ShipperState(
            behind=self._journal.unshipped,
            error=str(errors[0]) if errors else None,
            clock_skew_seconds=next((error.seconds for error in errors if isinstance(error, ClockSkew)), None),
        )

    async def run(self) -> None:
        """Ship for ever, every shard in a task of its own."""
        self._journal.listen(self._committed)
        self._settled = set()
        self._committed(lane.shard for lane in await self._journal.lanes())
        self._progress.set()
        running: set[int] = set()
        async with asyncio.TaskGroup() as shards:
            while True:
                self._new_shard.clear()
                for shard in self._wake.keys() - running:
                    running.add(shard)
                    shards.create_task(self._ship(shard), name=f"ship-shard-{shard}")
                await self._new_shard.wait()

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  # the caller's patience is the point
        """Wait until all that was recorded is in the log, at most ``timeout`` seconds; whether it is. ``run`` has to be
        running, and has compared every lane with the log's when this returns ``True``."""
        try:
            async with asyncio.timeout(timeout):
                with suppress(JournalError):  # what the disk refused is not in the journal to be shipped
                    await self._journal.durable()
                while not self._is_drained():
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def _is_drained(self) -> bool:
        everything = self._settled is not None and self._settled >= self._wake.keys()
        return everything and not self._journal.unshipped and not self._journal.has_identities

    def _committed(self, shards: Iterable[int]) -> None:
        for shard in list(shards):
            wake = self._wake.get(shard)
            if wake is None:
                wake = self._wake[shard] = asyncio.Event()
                self._new_shard.set()
            if self._settled is not None:
                self._settled.discard(shard)
            wake.set()

    async def _ship(self, shard: int) -> None:
        wake = self._wake[shard]
        failures = 0
        limit = BATCH_ROWS
        compare_at = 0.0
        while True:
            wake.clear()
            started = time.monotonic()
            try:
                if started >= compare_at:
                    await self._compare(shard)
                    compare_at = time.monotonic() + self._compare_seconds
                sent = await self._send_next(shard, limit)
            except Exception as error:  # whatever it is, the events stay in the journal and the next round tries again
                self._failed(shard, error)
                compare_at = 0.0
                await asyncio.sleep(_delay(failures))
                failures += 1
                limit = max(1, limit // 2)  # a batch may be too long for a slow database to take in time
                continue
            failures = 0
            self._errors.pop(shard, None)
            if sent is None and not wake.is_set() and self._settled is not None:
                self._settled.add(shard)
            self._progress.set()
            limit, full = min(limit * 2, BATCH_ROWS), limit
            if sent is None:
                await _wait_for(wake, compare_at - time.monotonic())
            elif sent < full:
                await asyncio.sleep(PACE_SECONDS - (time.monotonic() - started))

    def _failed(self, shard: int, error: Exception) -> None:
        if shard not in self._errors:
            if isinstance(error, PulsetrailError):
                _log.warning("Shard %d waits in the journal: %s", shard, error)
            else:
                _log.exception("Shard %d waits in the journal", shard, exc_info=error)
        self._errors[shard] = error

    async def _compare(self, shard: int) -> None:
        """Bring the journal's lanes in step with the log's: back, if the log lost what it had, or on."""
        for lane in await self._journal.lanes():
            if lane.shard == shard and lane.last_seq:
                last_seq = await self._append_to.lane(shard, lane.producer_id)
                if last_seq < lane.shipped_seq:
                    await self._journal.rewind(shard, lane.producer_id, last_seq)
                elif last_seq > lane.shipped_seq:
                    await self._journal.mark_shipped(shard, lane.producer_id, last_seq)

    async def _send_next(self, shard: int, limit: int) -> int | None:
        """Send one batch of at most ``limit``; how many events it had, or ``None`` when there is nothing to send."""
        pending = await self._journal.pending(shard, limit)
        # After the events were read: an event never precedes the identity that was committed with it.
        await self._send_identities()
        if pending is None:
            return None
        if pending.first_seq != pending.after_seq + 1:
            await self._fill_hole(pending)
            return 0
        try:
            await self._append(pending, pending.first_seq, pending.events)
        except LaneGap as gap:
            await self._journal.rewind(shard, pending.producer_id, gap.last_seq)
            return 0
        return len(pending.events)

    async def _append(
        self, pending: PendingBatch, first_seq: int, events: list[Event], *, fill_hole: bool = False
    ) -> None:
        batch = Batch(pending.shard, pending.producer_id, first_seq, events, self._clock(), fill_hole)
        started = time.monotonic()
        result = "failed"
        try:
            appended = await self._append_to.append(batch)
            result = "appended"
        except LogUnavailable:
            result = "unavailable"
            raise
        except LaneGap:
            result = "lane_gap"
            raise
        except ClockSkew:
            result = "clock_skew"
            raise
        finally:
            self._observer.append_finished(result, len(events), time.monotonic() - started)
        await self._journal.mark_shipped(pending.shard, pending.producer_id, appended.last_seq)

    async def _fill_hole(self, pending: PendingBatch) -> None:
        """Rows before ``pending`` are not in the journal any more. Unless the log has them, say how many are lost."""
        shard, producer_id = pending.shard, pending.producer_id
        last_seq = await self._append_to.lane(shard, producer_id)
        if last_seq >= pending.first_seq - 1:
            await self._journal.mark_shipped(shard, producer_id, last_seq)
            return
        await self._journal.rewind(shard, producer_id, last_seq)
        again = await self._journal.pending(shard, 1)
        if again is None or again.first_seq != pending.first_seq:
            return  # some are still kept: the next round sends them
        lost = pending.first_seq - 1 - last_seq
        _log.error("%d events of shard %d are lost: the journal no longer has them, and the log never had", lost, shard)
        event = dropped_event("unknown", "hole", lost, shard=shard)
        await self._append(pending, pending.first_seq - 1, [event], fill_hole=True)
        self._observer.events_dropped("unknown", "hole", lost)

    async def _send_identities(self) -> None:
        """Send what identities wait. One that the log cannot take holds no event back; it is tried again later."""
        async with self._identities:
            while self._journal.has_identities and time.monotonic() >= self._identities_retry_at:
                identities = await self._journal.identities(_IDENTITIES)
                try:
                    await self._append_to.remember(identities)
                except LogUnavailable:
                    raise
                except Exception:
                    _log.exception("%d client identities wait in the journal", len(identities))
                    self._identities_retry_at = time.monotonic() + self._compare_seconds
                    return
                await self._journal.mark_identities(identities)


def _delay(failures: int) -> float:
    """Exponential with jitter, so that processes that lost the database together do not come back together."""
    longest = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2.0 ** min(failures, 16))
    return random.uniform(0.5, 1.0) * longest  # noqa: S311 - no secret


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
