"""Journals that nobody owns any more: shipped to the end, whatever the number of workers is now.

A pass is idempotent. Each journal is locked while it is worked on, so that two processes never do the same one, and
everything in it is safe to send twice, so that a pass may die anywhere. An adopted journal is let go of as soon as it
is shipped, because its process may come back; it is removed once its rows have been in the log for long enough.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

from pulsetrail.errors import JournalError, JournalInUse
from pulsetrail.journal import Journal
from pulsetrail.journal.store import KEEP_SHIPPED_SECONDS
from pulsetrail.log import Log
from pulsetrail.observer import PipelineObserver
from pulsetrail.shipper import Shipper

PASS_SECONDS: Final = 60.0
PATIENCE_SECONDS: Final = 60.0
"""How long one pass tries to ship one journal while the log is away, before it looks at the next."""

_log = logging.getLogger(__name__)


class OrphanKeeper:
    """Looks after the un-owned journals of one directory; ``run`` it in a task of the supervisor."""

    def __init__(
        self,
        directory: Path,
        log: Log,
        *,
        exclude: Collection[str] = (),
        sync: str = "full",
        max_bytes: int = 1 << 30,
        keep_seconds: float = KEEP_SHIPPED_SECONDS,
        observer: PipelineObserver | None = None,
    ) -> None:
        """``exclude`` names processes (``gateway-0``) that will open their journals themselves."""
        self._directory = directory
        self._to = log
        self._exclude = frozenset(exclude)
        self._sync = sync
        self._max_bytes = max_bytes
        self._keep_seconds = keep_seconds
        self._observer = observer
        self._shipped_at: dict[Path, float] = {}

    async def run(self) -> None:
        """A pass now and then one a minute, for ever."""
        while True:
            await self.adopt()
            await asyncio.sleep(PASS_SECONDS)

    async def adopt(self) -> list[Path]:
        """One pass; the journals that were shipped to the end in it."""
        shipped = []
        for path in sorted(self._directory.glob("*.sqlite")):
            if path.stem in self._exclude or not self._is_due(path):
                continue
            try:
                if await self._adopt(path):
                    shipped.append(path)
            except JournalInUse:
                self._shipped_at.pop(path, None)
            except JournalError as error:
                _log.warning("An orphaned journal waits: %s", error)
        return shipped

    def _is_due(self, path: Path) -> bool:
        """Not shipped yet, or long enough ago to be removed."""
        at = self._shipped_at.get(path)
        return at is None or time.monotonic() - at >= self._keep_seconds

    async def _adopt(self, path: Path) -> bool:
        journal = Journal.open(path, sync=self._sync, max_bytes=self._max_bytes)
        spent = False
        try:
            ended = await journal.recover()
            _log.info("Shipping the orphaned journal %s: %d events, %d ends", path, journal.unshipped, ended)
            shipper = Shipper(journal, self._to, observer=self._observer)
            running = asyncio.create_task(shipper.run())
            try:
                shipped = await shipper.drain(PATIENCE_SECONDS)
            finally:
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
            if shipped:
                if path in self._shipped_at:
                    spent = await journal.discard_shipped()
                self._shipped_at.setdefault(path, time.monotonic())
        finally:
            await journal.close(remove=spent)
        if spent:
            del self._shipped_at[path]
        return shipped


async def adopt_orphans(directory: Path, log: Log, *, exclude: Collection[str] = ()) -> list[Path]:
    """Ship every un-owned journal of ``directory`` once and keep the files; the paths that were shipped to the end."""
    return await OrphanKeeper(directory, log, exclude=exclude).adopt()
