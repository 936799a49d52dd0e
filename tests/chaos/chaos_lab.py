"""A server that repeats what it hears, a proxy in front of it, and clients for it; all of them real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

from pulsetrail.chaos.director import Director
from pulsetrail.chaos.proxy import Address, Proxy


class Peer(NamedTuple):
    """One end of a connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, count: int, patience: float = 5.0) -> bytes:
        async with asyncio.timeout(patience):
            return await self.reader.readexactly(count)

    async def hears_nothing(self, seconds: float) -> bool:
        """Whether nothing comes, not even an end."""
        try:
            async with asyncio.timeout(seconds):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    async def leave(self) -> None:
        """Be gone, at once."""
        self.writer.transport.abort()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def end(self, patience: float = 5.0) -> str:
        """How the other side ends it: ``fin`` or ``reset``."""
        try:
            async with asyncio.timeout(patience):
                while await self.reader.read(1 << 16):
                    pass
        except ConnectionResetError:
            return "reset"
        return "fin"


class Lab:
    """See the module."""

    def __init__(self, stack: AsyncExitStack, proxy: Proxy, arrivals: asyncio.Queue[Peer]) -> None:
        self.proxy = proxy
        self.changes: list[dict[str, Any]] = []
        """What the proxy recorded."""
        self.director = Director(
            proxy, lambda event_type, **fields: self.changes.append({"type": event_type, **fields})
        )
        self._stack = stack
        self._arrivals = arrivals

    async def client(self) -> Peer:
        """A new connection to the proxy, which may not have got further."""
        client = Peer(*await asyncio.open_connection(self.proxy.address.host, self.proxy.address.port))
        self._stack.push_async_callback(client.leave)
        return client

    async def pair(self) -> tuple[Peer, Peer]:
        """A new connection through the proxy: the client's end and the server's."""
        client = await self.client()
        server = await self.arrival()
        await client.say(b"?")
        assert await server.hear(1) == b"?"
        return client, server

    async def arrival(self) -> Peer:
        """The next connection that reaches the server."""
        async with asyncio.timeout(5):
            return await self._arrivals.get()

    async def arrivals_within(self, seconds: float) -> int:
        """How many connections reach the server."""
        await asyncio.sleep(seconds)
        return self._arrivals.qsize()


async def running_lab(stack: AsyncExitStack) -> Lab:
    """Start one; ``stack`` stops it."""
    arrivals: asyncio.Queue[Peer] = asyncio.Queue()

    async def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        stack.push_async_callback(peer.leave)
        arrivals.put_nowait(peer)

    server = await asyncio.start_server(welcome, "127.0.0.1", 0)
    stack.callback(server.close)
    proxy = Proxy(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
    await stack.enter_async_context(proxy.listening(Address("127.0.0.1", 0)))
    lab = Lab(stack, proxy, arrivals)

    async def stop_directing() -> None:
        lab.director.lift()
        await asyncio.sleep(0)

    stack.push_async_callback(stop_directing)
    return lab
