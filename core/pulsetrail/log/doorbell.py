"""The doorbell: who reads the log hears soon that something was appended, and loses nothing when it does not.

The bell has no content and may ring too often, too late or never: polling is the truth. ``NOTIFY`` inside the append
would take a lock across the cluster until the commit, so it is sent after it, by a statement of its own, at most once
in ``PAUSE``. The listening connection rings itself now and then; if it does not hear itself (a server that is gone or
frozen, a pooler in between), waiting falls back to polling, and the connection is made anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pulsetrail.errors import LogUnavailable
from pulsetrail.log.connections import BROKEN
from pulsetrail.statements import load_statements

CHANNEL: Final = "pulsetrail_appended"
PAUSE: Final = 0.075
"""Seconds between two rings of one process, at least."""
POLL: Final = 0.25
"""Seconds of a wait when nobody can hear the bell; jittered by a fifth."""

_SQL: Final = load_statements(__package__, "queries.sql")


class Doorbell:
    """Rings for others after an append, and waits for a ring, from here or elsewhere."""

    def __init__(
        self,
        *,
        send: Callable[[], Awaitable[None]],
        connect: Callable[[], Awaitable[Any]],
        self_test: float = 15.0,
        patience: float = 2.0,
    ) -> None:
        self._send = send
        self._connect = connect
        self._self_test = self_test
        self._patience = patience
        self._rung = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._again = False
        self.listening = False
        """Whether the listening connection has heard itself lately."""

    def ring(self) -> None:
        """Something was appended; tell everybody, here at once and elsewhere soon."""
        self._ring_here()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._ring_elsewhere(), name="doorbell-sender")
        else:
            self._again = True

    async def wait(self, seconds: float) -> None:
        """Until the bell rings, at the longest ``seconds``; at the longest ``POLL`` while the bell cannot be heard."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="doorbell-listener")
        if not self.listening:
            seconds = min(seconds, POLL * random.uniform(0.8, 1.2))  # noqa: S311  # spreads polls, hides nothing
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()

    async def close(self) -> None:
        """Stop listening; a ring that was due is not sent any more."""
        tasks = [task for task in (self._sender, self._listener) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ring_here(self, *_: object) -> None:
        # Wakes those that wait now; who comes later waits for the next ring.
        self._rung.set()
        self._rung = asyncio.Event()

    async def _ring_elsewhere(self) -> None:
        self._again = True
        while self._again:
            self._again = False
            with contextlib.suppress(LogUnavailable):
                await self._send()
            await asyncio.sleep(PAUSE)

    async def _listen(self) -> None:
        while True:
            connection: Any = None
            try:
                connection = await self._connect()
                broken = asyncio.Event()
                connection.add_termination_listener(lambda _, broken=broken: broken.set())
                await connection.add_listener(CHANNEL, self._ring_here)
                while not broken.is_set():
                    heard = self._rung
                    await connection.execute(_SQL["ring"])
                    async with asyncio.timeout(self._patience):
                        await heard.wait()
                    self.listening = True
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._self_test):
                            await broken.wait()
            except BROKEN:
                pass  # polling goes on meanwhile
            finally:
                self.listening = False
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(random.uniform(0.5, 1.5))  # noqa: S311  # spreads reconnects, hides nothing
