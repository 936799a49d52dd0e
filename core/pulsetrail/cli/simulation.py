"""Simulated clients, each with its own way to lose its connection. Stock ``websockets`` clients, nothing of ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
import threading
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

DESCRIPTION = """\
A dozen simulated clients are connected:
  stable-1 .. stable-5       answer every heartbeat and stay
  flapping-1 .. flapping-3   reset, vanish or close after a few seconds, and come back
  asleep-1                   answers pings but no heartbeats, like a sleeping tab: closed after {idle} s
  frozen-1                   reads nothing any more; its kernel still acknowledges: closed after {idle} s
  proxied-1, proxied-2       behind a proxy that cuts every connection after {proxy_seconds} s
Watch them at http://{address}/monitor, and look at them in a second terminal:
  pulsetrail tail
  pulsetrail history flapping-1
  pulsetrail history proxied-1        (the lifetimes give the proxy away)
  pulsetrail history frozen-1         (then the same with a connection's id: the evidence)
  curl -s http://{address}/metrics | grep ^ws_updates_"""

_DEVICES = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile "
    "Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 "
    "Safari/605.1.15",
)

Behave = Callable[[ClientConnection], Awaitable[None]]


class Device(NamedTuple):
    """One simulated client."""

    client_id: str
    user_agent: str
    behave: Behave
    proxied: bool = False


class Simulation:
    """The clients, in a thread with a loop of its own."""

    def __init__(self, address: str, *, proxy_seconds: float) -> None:
        """``address`` is the instance's host:port."""
        self._address = address
        self._proxy_seconds = proxy_seconds
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="simulation", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()
        self._ready = threading.Event()

    def start(self) -> None:
        """Start the clients."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Let all clients go."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._told.set)
        self._thread.join()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        proxy = await asyncio.start_server(self._cut_after_a_while, "127.0.0.1", 0)
        proxy_address = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        tasks = [
            asyncio.create_task(_live(device, proxy_address if device.proxied else self._address))
            for device in _devices()
        ]
        self._ready.set()
        await self._told.wait()
        proxy.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cut_after_a_while(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward bytes both ways and close both sides after the proxy's patience, as many do by default."""
        host, _, port = self._address.rpartition(":")
        with contextlib.suppress(OSError, TimeoutError):
            inner_reader, inner_writer = await asyncio.open_connection(host.strip("[]"), int(port))
            try:
                async with asyncio.timeout(self._proxy_seconds):
                    await asyncio.gather(_forward(reader, inner_writer), _forward(inner_reader, writer))
            finally:
                inner_writer.close()
                writer.close()


async def _forward(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
    sink.close()


async def _live(device: Device, address: str) -> None:
    """Connect, behave, come back after a while; for ever."""
    hints: dict[str, str] = {}
    attempt = 0
    while True:
        query = urlencode({"client": device.client_id, "page": f"page-of-{device.client_id}", "app": "demo", **hints})
        try:
            async with connect(
                f"ws://{address}/ws/updates?{query}", user_agent_header=device.user_agent, ping_interval=None
            ) as client:
                attempt = 0
                await client.recv()
                with contextlib.suppress(ConnectionClosed):
                    await device.behave(client)
            hints = {"attempt": "1", "prev_code": str(client.close_code or 1006)}
        except (OSError, InvalidHandshake, ConnectionClosed):
            attempt += 1
        await asyncio.sleep(min(2.0 * 1.5**attempt, 60.0) * random.uniform(0.75, 1.25))  # noqa: S311 - not a secret


async def _stay(client: ClientConnection) -> None:
    async for message in client:
        heartbeat = json.loads(message)
        if heartbeat["type"] == "heartbeat":
            await client.send(json.dumps({"type": "pong", "seq": heartbeat["seq"]}))


async def _flap(client: ClientConnection) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(random.uniform(3, 20)):  # noqa: S311 - not a secret
            await _stay(client)
    way = random.choice(("close", "reset", "vanish"))  # noqa: S311 - not a secret
    if way == "reset":
        _linger_zero(client)
    if way == "close":
        await client.close()
    else:
        client.transport.abort()


def _linger_zero(client: ClientConnection) -> None:
    """Make the end of this socket a reset (RST) instead of an orderly FIN, socket(7)."""
    raw = client.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _sleep(client: ClientConnection) -> None:
    async for _ in client:
        pass  # the library answers pings by itself, as a browser does for a page that sleeps


async def _freeze(client: ClientConnection) -> None:
    client.transport.pause_reading()
    await asyncio.Event().wait()  # until the simulation ends: it does not notice that it was closed


def _devices() -> list[Device]:
    ways: list[tuple[str, int, Behave, bool]] = [
        ("stable", 5, _stay, False),
        ("flapping", 3, _flap, False),
        ("asleep", 1, _sleep, False),
        ("frozen", 1, _freeze, False),
        ("proxied", 2, _stay, True),
    ]
    names = [
        (f"{name}-{number}", behave, proxied) for name, count, behave, proxied in ways for number in range(1, count + 1)
    ]
    return [
        Device(name, _DEVICES[place % len(_DEVICES)], behave, proxied)
        for place, (name, behave, proxied) in enumerate(names)
    ]
