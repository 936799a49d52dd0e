"""A TCP proxy in front of Postgres that misbehaves on demand: the network of the log's tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import parse_qs, urlsplit, urlunsplit


class PostgresProxy:
    """Forwards to the server of a URL. Everything concerns the connections that there are and those to come."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.cut_reply_with: bytes | None = None
        """The next reply that holds these bytes is swallowed, and its connection reset."""
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[PostgresProxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        user = self._target.username or "postgres"
        password = f":{self._target.password}" if self._target.password else ""
        self.url = urlunsplit(("postgresql", f"{user}{password}@127.0.0.1:{port}", self._target.path, "", ""))
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.reset()  # those whose task was cancelled before it began
            await asyncio.sleep(0)

    def freeze(self) -> None:
        """Swallow nothing and deliver nothing, as a stopped server does."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def reset(self) -> None:
        """Cut every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_writer: asyncio.StreamWriter | None = None
        try:
            upstream, upstream_writer = await self._connect()
            self._writers.add(upstream_writer)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, upstream_writer, replies=False))
                group.create_task(self._pump(upstream, writer, replies=True))
        except* OSError:
            pass
        finally:
            for end in (writer, upstream_writer):
                if end is not None:
                    self._writers.discard(end)
                    end.transport.abort()
                    with suppress(OSError):
                        await end.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        options = parse_qs(self._target.query)
        if "host" in options:
            return await asyncio.open_unix_connection(f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}")
        return await asyncio.open_connection(self._target.hostname, self._target.port or 5432)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> None:
        while data := await source.read(1 << 16):
            await self._flowing.wait()
            if replies and self.cut_reply_with is not None and self.cut_reply_with in data:
                self.cut_reply_with = None
                raise ConnectionResetError
            sink.write(data)
            with suppress(ConnectionError):
                await sink.drain()
        raise ConnectionResetError  # one end closed: close the other
