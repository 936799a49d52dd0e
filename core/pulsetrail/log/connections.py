"""A few connections to Postgres, kept open, each used by one call at a time.

asyncpg's own pool waits for a server that does not answer when it gives a connection back; here a connection that had
any trouble is dropped without a word, so that a frozen server costs the deadline of one call and nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from pulsetrail.errors import LogUnavailable
from pulsetrail.statements import load_statements

BROKEN: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # The server's last words may cross a request, and asyncpg is surprised by them.
    asyncpg.InternalClientError,
)
"""Everything that asyncpg raises when the server, or the way to it, does not do what it should."""

_SQL: Final = load_statements(__package__, "queries.sql")
_EPOCH_2000_US: Final = 946_684_800_000_000
"""Postgres counts time from 2000-01-01."""


async def open_connection(
    url: str, *, application_name: str, role: str | None = None, connect_timeout: float = 5.0, deadline: float = 10.0
) -> Any:
    """One asyncpg connection with limits on the server's side shorter than ``deadline``, acting as ``role`` where that
    role exists and the user may; times are whole µs since 1970 on it.
    """
    limit = f"{max(int(deadline * 800), 1)}ms"
    connection = await asyncpg.connect(
        url,
        timeout=connect_timeout,
        command_timeout=deadline,
        server_settings={
            "application_name": application_name,
            "statement_timeout": limit,
            "lock_timeout": limit,
            "idle_in_transaction_session_timeout": limit,
            "timezone": "UTC",
            "jit": "off",
        },
    )
    try:
        await connection.set_type_codec(
            "timestamptz",
            schema="pg_catalog",
            format="tuple",
            encoder=lambda micros: (micros - _EPOCH_2000_US,),
            decoder=lambda parts: parts[0] + _EPOCH_2000_US,
        )
        if role is not None:
            await connection.execute(_SQL["act_as"], role)
    except BaseException:
        connection.terminate()
        raise
    return connection


class Connections:
    """At most ``size`` connections; the one used last is used first. Opens them when they are needed."""

    def __init__(
        self, url: str, *, application_name: str, role: str | None, size: int, connect_timeout: float, deadline: float
    ) -> None:
        self._url = url
        self._application_name = application_name
        self._role = role
        self._connect_timeout = connect_timeout
        self._deadline = deadline
        self._free = asyncio.Semaphore(size)
        self._idle: list[Any] = []
        self._used: set[Any] = set()
        self._closed = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Any]:
        """A connection for the time of the block, which has to end within the deadline.

        Raises:
            LogUnavailable: for whatever Postgres or the way to it does wrong; only what it says of the data itself
                (``asyncpg.DataError``, ``ValueError``, ``asyncpg.ProgramLimitExceededError``) comes as it is.
        """
        connection: Any = None
        try:
            async with asyncio.timeout(self._deadline), self._free:
                try:
                    connection = await self._take()
                    yield connection
                except BaseException as error:
                    # What the server said in order leaves the connection usable; everything else is doubt.
                    if connection is not None and not isinstance(error, (asyncpg.PostgresError, ValueError)):
                        connection.terminate()
                    raise
                finally:
                    if connection is not None:
                        self._give_back(connection)
        except (asyncpg.DataError, asyncpg.ProgramLimitExceededError):
            raise
        except asyncpg.PostgresError as error:
            raise LogUnavailable(f"{error.sqlstate} {error}") from error
        except ValueError:
            raise  # asyncpg's own complaint about an argument is an InterfaceError, too
        except TimeoutError as error:
            raise LogUnavailable(f"no answer within {self._deadline:g} s") from error
        except BROKEN as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error

    async def _take(self) -> Any:
        if self._closed:
            raise LogUnavailable("the log is closed")
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                break
        else:
            connection = await open_connection(
                self._url,
                application_name=self._application_name,
                role=self._role,
                connect_timeout=self._connect_timeout,
                deadline=self._deadline,
            )
        self._used.add(connection)
        return connection

    def _give_back(self, connection: Any) -> None:
        self._used.discard(connection)
        if self._closed:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)

    async def close(self) -> None:
        """Close the idle ones in order and cut the ones in use."""
        self._closed = True
        for connection in self._used:
            connection.terminate()
        idle, self._idle = self._idle, []
        for connection in idle:
            try:
                await connection.close(timeout=1.0)
            except BROKEN:
                connection.terminate()
