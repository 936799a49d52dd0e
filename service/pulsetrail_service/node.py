"""This gateway as a node of the fleet: its lease, and what happens when it was given up for dead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pulsetrail.close_codes import Reason
from pulsetrail.errors import LogUnavailable
from pulsetrail.log import Log
from pulsetrail_service.hub import Hub

logger = logging.getLogger("pulsetrail.gateway")


class Lease:
    """Renews the node's lease through the database. An outage of the database expires nobody: the reaper waits for
    it, so the gateway goes on and renews when it can."""

    def __init__(self, log: Log, hub: Hub, *, seconds: float, node_started: Callable[[int], None]) -> None:
        """``node_started`` is told the epoch that was fenced, once a new one has begun."""
        self._log = log
        self._hub = hub
        self._seconds = seconds
        self._node_started = node_started

    async def run(self) -> None:
        """Renew three times a lease, until cancelled."""
        while True:
            try:
                await self.renew()
            except LogUnavailable as error:
                logger.debug("the lease was not renewed: %s", error)
            await asyncio.sleep(self._seconds / 3)

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
