"""The listening side: who gets in, and the faults as states of the listener, of arrivals and of the open links."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.client import responses
from typing import Final

from pulsetrail import ports
from pulsetrail.chaos.faults import (
    Bandwidth,
    Blackhole,
    Direction,
    DropHeartbeats,
    Fault,
    Fin,
    Flap,
    Http,
    Latency,
    Monkey,
    Refuse,
    Reset,
    direction_of,
    kind_of,
)
from pulsetrail.chaos.links import Link, Shape, close_with_reset, finish, reset_when_closed
from pulsetrail.errors import PortInUse

CONNECT_SECONDS: Final = 10.0
HEAD_SECONDS: Final = 10.0
MAX_HEAD: Final = 64 * 1024
BACKLOG: Final = 512
ACCEPT_AGAIN_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Address:
    """Where to listen or to connect."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """``HOST:PORT`` or ``[IPv6]:PORT``.

        Raises:
            ValueError: it is neither.
        """
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError(f"{text!r} is no address such as 127.0.0.1:8000")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Proxy:
    """Forwards every connection to the target, as long as no fault is in force."""

    def __init__(self, target: Address) -> None:
        self.target = target
        self.address = Address("", 0)
        self.accepted = 0
        self.links: set[Link] = set()
        self._heartbeats_dropped = 0
        """By links that have ended."""
        self._arrivals: dict[str, Refuse | Reset | Fin | Http] = {}
        """What awaits those who come now."""
        self._up = Shape()
        self._down = Shape()
        self._accepting: asyncio.Task[None] | None = None
        self._running: dict[asyncio.Task[None], Link | None] = {}

    @asynccontextmanager
    async def listening(self, address: Address) -> AsyncIterator[Proxy]:
        """Listen while the context lasts; port 0 takes a free one.

        Raises:
            PortInUse: somebody else listens there.
        """
        try:
            # Bound, but not listening: it keeps the port while connections are refused.
            kept = ports.reserve(address.host, address.port)
        except PortInUse:
            raise PortInUse(address.host, address.port, option="--listen") from None
        with kept:
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # it would let others in while nobody listens
            self.address = Address(address.host, kept.getsockname()[1])
            self._listen()
            try:
                yield self
            finally:
                self._listen_no_more()
                for task in self._running:
                    task.cancel()
                await asyncio.gather(*self._running, return_exceptions=True)

    @property
    def heartbeats_dropped(self) -> int:
        """Heartbeats of the server that no client got."""
        return self._heartbeats_dropped + sum(link.stream.dropped for link in self.links)

    # --- faults ---------------------------------------------------------------------------------------------------

    def begin(self, fault: Fault, *, lasts: bool) -> None:
        """Put a fault in force. A reset and a FIN that do not last concern the open connections only."""
        match fault:
            case Refuse():
                self._listen_no_more()
            case Reset() | Fin():
                self._end_links(fault, list(self._running))
            case Http(upgrades_only=False):
                # Browsers keep connections for their next requests; those would slip past.
                idle = [task for task, link in self._running.items() if link and not link.stream.is_websocket]
                self._end_links(Fin(), idle)
            case Http() | Flap() | Monkey():
                pass
            case _:
                self._shape(fault, begins=True)
        if lasts and isinstance(fault, Refuse | Reset | Fin | Http):
            self._arrivals[kind_of(fault)] = fault

    def end(self, fault: Fault) -> None:
        """Take it back."""
        self._arrivals.pop(kind_of(fault), None)
        if isinstance(fault, Refuse):
            self._listen()
        else:
            self._shape(fault, begins=False)

    def _shape(self, fault: Fault, *, begins: bool) -> None:
        for shape in self._shapes(direction_of(fault)):
            match fault:
                case Blackhole():
                    shape.flowing.clear() if begins else shape.flowing.set()
                case Latency():
                    shape.latency = fault if begins else None
                case Bandwidth():
                    shape.bytes_per_second = fault.bytes_per_second if begins else None
                case DropHeartbeats():
                    shape.drop_heartbeats = begins

    def _shapes(self, direction: Direction | None) -> list[Shape]:
        return [
            shape
            for shape, way in ((self._up, Direction.UP), (self._down, Direction.DOWN))
            if direction in (way, Direction.BOTH, None)
        ]

    def _end_links(self, fault: Reset | Fin, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            link = self._running.get(task)
            if link is None:
                continue  # its handshake with the target is not done yet
            if isinstance(fault, Reset):
                reset_when_closed(link.client)
                reset_when_closed(link.server)
            else:
                # The link closes its sockets; duplicates keep them from ending before both sides have seen the FIN.
                self._start(finish(link.client.dup(), link.server.dup()))
            task.cancel()

    # --- connections ----------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._accepting is None:
            listener = ports.shared_socket(self.address.host, self.address.port)
            listener.setblocking(False)
            listener.listen(BACKLOG)
            self._accepting = asyncio.create_task(self._accept(listener))

    def _listen_no_more(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            self._accepting = None

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    client, _ = await loop.sock_accept(listener)
                except OSError:
                    await asyncio.sleep(ACCEPT_AGAIN_SECONDS)  # out of file descriptors, or gone before it was accepted
                    continue
                self.accepted += 1
                self._start(self._serve(client))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._running[task] = None
        task.add_done_callback(lambda done: self._running.pop(done, None))

    async def _serve(self, client: socket.socket) -> None:
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await self._greet(client)
        finally:
            client.close()

    async def _greet(self, client: socket.socket) -> None:
        if "reset" in self._arrivals:
            close_with_reset(client)
            return
        if "fin" in self._arrivals:
            await finish(client)
            return
        first = b""
        fault = self._arrivals.get("http")
        if isinstance(fault, Http):
            first = await _request_head(client)
            if not first or not fault.upgrades_only or _is_upgrade(first):
                await _answer(client, fault.status)
                return
        try:
            server = await _connected(self.target)
        except OSError:
            close_with_reset(client)
            return
        link = Link(client, server, self._up, self._down, first)
        if (task := asyncio.current_task()) is not None:
            self._running[task] = link
        self.links.add(link)
        try:
            await link.run()
        finally:
            self.links.discard(link)
            self._heartbeats_dropped += link.stream.dropped


async def _connected(target: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    failure = OSError("no address")
    for family, kind, protocol, _, address in found:
        server = socket.socket(family, kind, protocol)
        server.setblocking(False)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.sock_connect(server, address)
        except (OSError, TimeoutError) as error:
            server.close()
            failure = OSError(str(error))
        except BaseException:
            server.close()
            raise
        else:
            return server
    raise failure


async def _request_head(client: socket.socket) -> bytes:
    """Everything up to the end of the request's head, and what came with it; nothing if it does not come in time."""
    loop = asyncio.get_running_loop()
    head = bytearray()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(HEAD_SECONDS):
            while b"\r\n\r\n" not in head and len(head) < MAX_HEAD:
                data = await loop.sock_recv(client, 4096)
                if not data:
                    return b""
                head += data
            return bytes(head)
    return b""


def _is_upgrade(head: bytes) -> bool:
    lines = head.partition(b"\r\n\r\n")[0].lower().split(b"\r\n")
    return any(line.partition(b":")[0].strip() == b"upgrade" and b"websocket" in line for line in lines)


async def _answer(client: socket.socket, status: int) -> None:
    phrase = responses.get(status, "Chaos")
    body = f"{status} {phrase}, says the chaos proxy.\n"
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    with contextlib.suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(client, (head + body).encode())
    await finish(client)
