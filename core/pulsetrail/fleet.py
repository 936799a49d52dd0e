"""What a process tells the fleet about itself, and asks of it, outside the log: presence and dead letters.

One short-lived connection for each errand. They are rare, none is on the way of an event, and a database that is away
costs nothing but the errand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import asyncpg

from pulsetrail.errors import LogUnavailable
from pulsetrail.log.connections import BROKEN
from pulsetrail.statements import load_statements

HERE_SECONDS: Final = 10.0
SILENT_SECONDS: Final = 45.0
"""After this a process is no longer listed: it missed four times."""

_CONNECT_SECONDS: Final = 3.0
_STATEMENT_SECONDS: Final = 5.0
_SQL: Final = load_statements("pulsetrail", "fleet.sql")


class Letter(Protocol):
    """What could not be read, for the table ``dead_letter``; ``received_at`` in microseconds."""

    @property
    def letter_id(self) -> UUID: ...
    @property
    def received_at(self) -> int: ...
    @property
    def stage(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def raw(self) -> bytes: ...


class Presence(NamedTuple):
    """One process, and where its metrics are."""

    process_id: str
    role: str
    address: str


class Fleet:
    """Errands at the shared database. Making the object connects to nothing."""

    def __init__(self, url: str, *, letter_days: int = 30) -> None:
        """Dead letters expire after ``letter_days``."""
        self._url = url
        self._letter_days = letter_days

    async def stay_listed(self, presence: Presence) -> None:
        """Keep the process in the list until cancelled, then take it out."""
        try:
            while True:
                with contextlib.suppress(LogUnavailable):
                    async with self._connection() as connection:
                        await connection.execute(_SQL["say_here"], *presence)
                        await connection.execute(_SQL["forget_silent"], SILENT_SECONDS * 10)
                await asyncio.sleep(HERE_SECONDS)
        finally:
            with contextlib.suppress(LogUnavailable, TimeoutError):
                async with asyncio.timeout(1.0), self._connection() as connection:
                    await connection.execute(_SQL["say_gone"], presence.process_id)

    async def addresses(self) -> list[str]:
        """Where Prometheus finds the processes; none while the database is away."""
        try:
            async with self._connection() as connection:
                return [row["address"] for row in await connection.fetch(_SQL["addresses"], SILENT_SECONDS)]
        except LogUnavailable:
            return []

    async def bury(self, letters: Sequence[Letter]) -> None:
        """Write dead letters.

        Raises:
            LogUnavailable: not now.
        """
        rows = [(x.letter_id, x.stage, x.reason, x.raw, x.received_at, self._letter_days) for x in letters]
        async with self._connection() as connection:
            await connection.executemany(_SQL["bury"], rows)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Any]:
        try:
            connection = await asyncpg.connect(self._url, timeout=_CONNECT_SECONDS, command_timeout=_STATEMENT_SECONDS)
            try:
                yield connection
            finally:
                await connection.close(timeout=1)
        except BROKEN as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error
