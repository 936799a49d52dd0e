"""One connection through the proxy: two sockets, a pump for each direction, and what the faults do to the bytes.

Ends are passed on as they came: a FIN as a FIN, half-closed connections included, and a reset as a reset. They travel
in line with the bytes, so that a blackhole holds them back too, and a late link delivers them late.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from typing import Final

from pulsetrail.chaos.faults import Latency
from pulsetrail.chaos.frames import ServerStream

CHUNK: Final = 16 * 1024
IN_FLIGHT: Final = 16
"""Chunks that a direction holds before it reads no more: a fault must show at the sender, as on a real path."""
DRAIN_SECONDS: Final = 5.0
PACES_PER_SECOND: Final = 20


class Shape:
    """What is done to the bytes of one direction, of all connections. The proxy changes it, the pumps look at it."""

    def __init__(self) -> None:
        self.flowing = asyncio.Event()
        """Cleared by a blackhole."""
        self.flowing.set()
        self.latency: Latency | None = None
        self.bytes_per_second: int | None = None
        self.drop_heartbeats = False


class _Fin:
    """The source has no more to send."""


class _Reset(ConnectionError):
    """The source is gone without a FIN."""


_FIN: Final = _Fin()
_RESET: Final = _Reset()
_Item = tuple[float, "bytes | _Fin | _Reset"]
"""When it is due, by the loop's clock, and what."""


class Link:
    """A client's socket and the server's, both not blocking. ``first`` was read from the client already."""

    def __init__(
        self, client: socket.socket, server: socket.socket, up: Shape, down: Shape, first: bytes = b""
    ) -> None:
        self.client = client
        self.server = server
        self.stream = ServerStream()
        self.bytes_up = 0
        self.bytes_down = 0
        self._up = up
        self._down = down
        self._first = first
        self._gone: set[socket.socket] = set()
        """Sockets that took no more bytes: they were reset, whatever their next read says."""

    async def run(self) -> None:
        """Forward until both directions have ended or one is reset; then both sockets are closed."""
        queues: tuple[asyncio.Queue[_Item], asyncio.Queue[_Item]] = asyncio.Queue(IN_FLIGHT), asyncio.Queue(IN_FLIGHT)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(self.client, queues[0], self._up))
                group.create_task(self._write(queues[0], self.server, self._up))
                group.create_task(self._read(self.server, queues[1], self._down))
                group.create_task(self._write(queues[1], self.client, self._down))
        except* _Reset:
            reset_when_closed(self.client)
            reset_when_closed(self.server)
        finally:
            self.client.close()
            self.server.close()

    async def _read(self, source: socket.socket, queue: asyncio.Queue[_Item], shape: Shape) -> None:
        loop = asyncio.get_running_loop()
        due = 0.0
        item: bytes | _Fin | _Reset = _FIN
        if source is self.client and self._first:
            await queue.put((due, self._first))
        while True:
            try:
                item = await loop.sock_recv(source, CHUNK) or (_RESET if source in self._gone else _FIN)
            except OSError:
                item = _RESET
            if isinstance(item, bytes) and source is self.server:
                item = self.stream.take(item, drop_heartbeats=shape.drop_heartbeats)
                if not item:
                    continue
            due = max(due, loop.time() + _delay(shape.latency))
            await queue.put((due, item))
            if not isinstance(item, bytes):
                return

    async def _write(self, queue: asyncio.Queue[_Item], sink: socket.socket, shape: Shape) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, item = await queue.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            await shape.flowing.wait()
            if isinstance(item, _Reset):
                raise _Reset
            if isinstance(item, _Fin):
                with contextlib.suppress(OSError):
                    sink.shutdown(socket.SHUT_WR)
                return
            if sink in self._gone:
                continue  # what is still in flight to somebody who is gone
            try:
                await self._deliver(item, sink, shape)
            except OSError:
                self._gone.add(sink)

    async def _deliver(self, data: bytes, sink: socket.socket, shape: Shape) -> None:
        loop = asyncio.get_running_loop()
        view = memoryview(data)
        while view:
            rate = shape.bytes_per_second
            size = len(view) if rate is None else max(1, rate // PACES_PER_SECOND)
            await loop.sock_sendall(sink, view[:size])
            if sink is self.client:
                self.bytes_down += len(view[:size])
            else:
                self.bytes_up += len(view[:size])
            if rate is not None:
                await asyncio.sleep(len(view[:size]) / rate)
                await shape.flowing.wait()
            view = view[size:]


def _delay(latency: Latency | None) -> float:
    if latency is None:
        return 0.0
    jitter = random.uniform(-latency.jitter_ms, latency.jitter_ms)  # noqa: S311 - not a secret
    return (latency.delay_ms + jitter) / 1000


def reset_when_closed(sock: socket.socket) -> None:
    """Make the end of this socket a RST instead of a FIN: a linger time of zero, socket(7)."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def close_with_reset(sock: socket.socket) -> None:
    """Close with a RST."""
    reset_when_closed(sock)
    sock.close()


async def finish(*socks: socket.socket) -> None:
    """Close with a FIN. What still comes is read first: closing a socket with unread bytes would send a RST."""
    try:
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await asyncio.gather(*(_drain(sock) for sock in socks))
    finally:
        for sock in socks:
            sock.close()


async def _drain(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while await asyncio.get_running_loop().sock_recv(sock, CHUNK):
            pass
