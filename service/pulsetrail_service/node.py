"""This gateway as a node of the fleet: its lease, and what happens when it was given up for dead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from pulsetrail.close_codes import Reason
from pulsetrail.errors import LogUnavailable
from pulsetrail.log import Log
from pulsetrail_service.hub import Hub

RENEWALS: Final = 3
"""Renewals in the time of a lease."""

RETRY_SECONDS: Final = 0.5
"""Pause after a renewal that failed: the reaper waits for a lease after an outage, so there is time for several."""

logger = logging.getLogger("pulsetrail.gateway")


def patience_of(lease_seconds: float) -> float:
    """Seconds after which one renewal is given up for the next; well below a lease, whatever hangs."""
    return min(max(lease_seconds / RENEWALS, 0.5), 5.0)


class Lease:
    """Renews the node's lease through the database. An outage of the database expires nobody: the reaper waits for
    it, so the gateway goes on and renews when it can."""

    def __init__(self, log: Log, hub: Hub, *, seconds: float, node_started: Callable[[int], None]) -> None:
        """``log`` is for this alone: behind appends that hang, a renewal would come too late after an outage, and the
        reaper would end what is alive. ``node_started`` is told the epoch that was fenced, once a new one has begun."""
        self._log = log
        self._hub = hub
        self._seconds = seconds
        self._node_started = node_started

    async def run(self) -> None:
        """Renew three times a lease, until cancelled; sooner again after a failure."""
        while True:
            pause = self._seconds / RENEWALS
            try:
                await self.renew()
            except LogUnavailable as error:
                logger.debug("the lease was not renewed: %s", error)
                pause = min(pause, RETRY_SECONDS)
            await asyncio.sleep(pause)

    async def renew(self) -> None:
        """Renew once.

        Raises:
            LogUnavailable: the database cannot be reached.
        """
        recorder = self._hub.recorder
        state = await self._log.renew_lease(recorder.node_id, recorder.epoch, self._seconds)
        if not state.fenced:
            return
        fenced = recorder.new_epoch()
        logger.warning("epoch %d of node %s was fenced: its connections are closed", fenced, recorder.node_id)
        self._node_started(fenced)
        self._hub.send_all_away(Reason.FORCED_RECONNECT)
        await self._log.renew_lease(recorder.node_id, recorder.epoch, self._seconds)

    async def release(self) -> None:
        """Give the lease back: this node ended in order, and its last event is in the log."""
        recorder = self._hub.recorder
        try:
            await self._log.release_lease(recorder.node_id, recorder.epoch)
        except LogUnavailable as error:
            logger.debug("the lease was not released: %s", error)
