"""The stream of updates of several workers: the bounded table ``updates``, read on a doorbell or a poll.

The doorbell has no content and may be lost; the poll is what nobody misses an update by.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from pulsetrail.errors import LogUnavailable
from pulsetrail.identity import new_id
from pulsetrail.log.connections import BROKEN
from pulsetrail.statements import load_statements
from pulsetrail_service.updates import Update

POLL: Final = 0.25
"""Seconds between two looks when nobody rings."""

RING: Final = 0.05
"""Seconds between two rings of one process at least: a NOTIFY takes a lock on the whole cluster."""

_CHANNEL: Final = "pulsetrail_updates"
_TIMEOUT: Final = 2.0
_AT_ONCE: Final = 512
_SQL: Final = load_statements("pulsetrail_service", "updates.sql")


class SharedUpdates:
    """An ``UpdateSource`` over Postgres. Two connections: one reads and listens, one publishes."""

    def __init__(self, url: str, *, bound: int) -> None:
        """At most ``bound`` updates are kept in the table."""
        self.epoch = ""
        self._url = url
        self._bound = bound
        self._reader: Any = None
        self._publisher: Any = None
        self._publishing = asyncio.Lock()
        self._rung = asyncio.Event()
        self._ringing: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """See ``UpdateSource``."""
        async with _unavailable():
            reader = await self._connected_reader()
            await reader.execute(_SQL["ensure_stream"], new_id().hex)
            self.epoch, head = await reader.fetchrow(_SQL["head"])
        return int(head)

    async def publish(self, topic: str, data: bytes) -> int:
        """See ``UpdateSource``."""
        async with self._publishing, _unavailable():
            if self._publisher is None or self._publisher.is_closed():
                self._publisher = await self._connect()
            row = await self._publisher.fetchrow(_SQL["publish"], topic, data.decode(), self._bound)
        if row is None:
            raise LogUnavailable("the stream of updates has no head yet")
        self._rung.set()
        if self._ringing is None or self._ringing.done():
            self._ringing = asyncio.create_task(self._ring())
        return int(row["head_position"])

    async def read(self, after: int) -> Sequence[Update]:
        """See ``UpdateSource``."""
        with contextlib.suppress(TimeoutError):
            # The jitter keeps the workers from asking in step.
            async with asyncio.timeout(POLL * random.uniform(0.8, 1.2)):  # noqa: S311 - no secret
                await self._rung.wait()
        self._rung.clear()
        async with _unavailable():
            reader = await self._connected_reader()
            epoch, head = await reader.fetchrow(_SQL["head"])
            if epoch != self.epoch or head < after:
                self.epoch = epoch if epoch != self.epoch else f"{epoch}-"  # a restored database went back in time
                return ()
            rows = await reader.fetch(_SQL["read_after"], epoch, after, _AT_ONCE)
        if len(rows) == _AT_ONCE:
            self._rung.set()
        return [Update(row["stream_position"], row["topic"], row["data"].encode()) for row in rows]

    async def close(self) -> None:
        """See ``UpdateSource``."""
        if self._ringing is not None:
            self._ringing.cancel()
            await asyncio.gather(self._ringing, return_exceptions=True)
        for connection in (self._reader, self._publisher):
            if connection is not None and not connection.is_closed():
                connection.terminate()

    async def _connected_reader(self) -> Any:
        if self._reader is None or self._reader.is_closed():
            self._reader = await self._connect()
            await self._reader.add_listener(_CHANNEL, lambda *_: self._rung.set())
        return self._reader

    async def _connect(self) -> Any:
        return await asyncpg.connect(
            self._url,
            timeout=_TIMEOUT,
            command_timeout=_TIMEOUT,
            server_settings={"application_name": "pulsetrail updates"},
        )

    async def _ring(self) -> None:
        with contextlib.suppress(LogUnavailable):
            async with self._publishing, _unavailable():
                await self._publisher.execute(_SQL["ring"])
        await asyncio.sleep(RING)


@asynccontextmanager
async def _unavailable() -> AsyncIterator[None]:
    """What a database that is away raises, as one error."""
    try:
        yield
    except BROKEN as error:
        raise LogUnavailable(str(error) or type(error).__name__) from error
