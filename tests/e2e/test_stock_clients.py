"""Clients that nobody here wrote are served, and each way to drop has its own name in the history."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from service_runner import STOCK_CLIENT, Service, StockClient
from websockets.asyncio.client import connect

NODE_CLIENTS = Path(__file__).parents[1] / "clients" / "node"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; `make test` installs it where it may")


async def publish(service: Service, topic: str, data: Any) -> None:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"{service.http}/v1/updates", json={"topic": topic, "data": data})
        assert answer.status_code == 202, answer.text


async def ended(service: Service, connection: str, patience: float = 30.0) -> dict[str, Any]:
    """The connection's row of ``pulsetrail history --json``, once it has ended."""
    async with asyncio.timeout(patience):
        while True:
            done = await asyncio.to_thread(service.run, "history", connection, "--json", check=False)
            if done.returncode == 0:
                row: dict[str, Any] = json.loads(done.stdout)["connections"][0]
                if row["ended_at"] is not None:
                    return row
            await asyncio.sleep(0.3)


@asynccontextmanager
async def page(service: Service, query: str = "") -> AsyncIterator[StockClient]:
    assert CHROMIUM is not None
    script = str(NODE_CLIENTS / "page.mjs")
    client = await StockClient.start("node", script, CHROMIUM, service.http, f"/ws/updates?{query}")
    try:
        yield client
    finally:
        for child in psutil.Process(client.process.pid).children(recursive=True):
            child.send_signal(signal.SIGCONT)
        await client.leave()
        await client.kill()


async def test_python_websockets_is_served(service: Service) -> None:
    async with connect(service.ws) as client:
        assert json.loads(await client.recv())["type"] == "welcome"
        await publish(service, "greeting", "hello")
        seen: list[str] = []
        async with asyncio.timeout(10):
            while not {"update", "heartbeat"} <= set(seen):
                seen.append(json.loads(await client.recv())["type"])


async def test_an_update_reaches_the_clients_of_every_worker_once_and_in_order(service: Service) -> None:
    clients = [await connect(f"{service.ws}?client=many{number}") for number in range(12)]
    welcomes = [json.loads(await client.recv()) for client in clients]
    assert len({welcome["stream_epoch"] for welcome in welcomes}) == 1, "one stream, whichever worker serves it"
    for number in range(20):
        await publish(service, "counted", number)
    for client in clients:
        seen: list[tuple[int, int]] = []
        async with asyncio.timeout(20):
            while len(seen) < 20:
                message = json.loads(await client.recv())
                if message["type"] == "update" and message["topic"] == "counted":
                    seen.append((message["data"], message["stream_position"]))
        assert [data for data, _ in seen] == list(range(20))
        assert [position for _, position in seen] == sorted({position for _, position in seen})
        await client.close()
    nodes = {(await ended(service, welcome["connection"]))["node_id"] for welcome in welcomes}
    assert len(nodes) == 2, "twelve connections on two workers of one port"


async def test_npm_ws_is_served(service: Service) -> None:
    client = await StockClient.start("node", str(NODE_CLIENTS / "ws.mjs"), service.ws)
    try:
        welcome = await client.receive("welcome")
        await publish(service, "greeting", "hello")
        assert (await client.receive("update"))["data"] == "hello"
        await client.receive("heartbeat")
        await client.leave()
        row = await ended(service, welcome["connection"])
        assert (row["reason"], row["wire_code"]) == ("normal", 1000)
    finally:
        await client.kill()


@needs_chromium
async def test_chromium_is_served_and_closing_its_page_is_no_failure(service: Service) -> None:
    async with page(service) as client:
        welcome = await client.receive("welcome")
        await publish(service, "greeting", "hello")
        assert (await client.receive("update"))["data"] == "hello"
        await client.receive("heartbeat")
    row = await ended(service, welcome["connection"])
    assert (row["reason"], row["browser"]) == ("page_closed", "chrome")


@needs_chromium
async def test_a_page_whose_renderer_is_stopped_ends_as_idle_though_its_browser_answers(service: Service) -> None:
    async with page(service) as client:
        welcome = await client.receive("welcome")
        await client.receive("heartbeat")
        for child in psutil.Process(client.process.pid).children(recursive=True):
            if "--type=renderer" in child.cmdline():
                child.send_signal(signal.SIGSTOP)
        row = await ended(service, welcome["connection"])
    assert row["reason"] == "idle_timeout"
    assert row["evidence"]["layers"] == {"kernel": True, "ping": True}, "the browser answered the WebSocket pings"


async def handshake(service: Service, *, receive_buffer: int | None = None) -> tuple[socket.socket, str]:
    """A raw client: its socket, and its connection's id."""

    def connected() -> tuple[socket.socket, str]:
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", service.port))
        sock.sendall(
            f"GET /ws/updates HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        data = b""
        while b'"miss_limit"' not in data or not data.endswith(b"}"):
            data += sock.recv(65536)
        return sock, json.loads(data[data.index(b'{"type"') :])["connection"]

    return await asyncio.to_thread(connected)


async def test_a_reset_a_fin_a_close_and_a_reader_that_sleeps_each_have_their_name(service: Service) -> None:
    resets, resetting = await handshake(service)
    vanishes, vanishing = await handshake(service)
    closes, closing = await handshake(service)
    sleeps, sleeping = await handshake(service, receive_buffer=4096)
    resets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    resets.close()
    vanishes.close()
    closes.sendall(bytes((0x88, 0x82, 0, 0, 0, 0)) + (1000).to_bytes(2, "big"))
    for number in range(300):
        await publish(service, "bulk", {"number": number, "fill": "x" * 15_000})
    assert (await ended(service, resetting))["reason"] == "peer_reset"
    assert (await ended(service, vanishing))["reason"] == "peer_vanished"
    assert (await ended(service, closing))["reason"] == "normal"
    slow = await ended(service, sleeping)
    assert slow["reason"] == "slow_consumer"
    assert slow["evidence"]["bytes_unsent"] >= 65536
    closes.close()
    sleeps.close()


async def test_a_stopped_client_goes_stale_and_ends_as_idle_with_everything_acknowledged(service: Service) -> None:
    client = await StockClient.start(sys.executable, "-c", STOCK_CLIENT, service.ws)
    try:
        welcome = await client.receive("welcome")
        await client.receive("heartbeat")
        os.kill(client.process.pid, signal.SIGSTOP)
        row = await ended(service, welcome["connection"])
        assert row["reason"] == "idle_timeout"
        assert row["heartbeats_missed"] >= 2
        assert row["evidence"]["tcp"]["unacked"] == 0
        assert row["evidence"]["layers"] == {"kernel": True, "ping": False}
        history = await asyncio.to_thread(service.json, "history", welcome["connection"])
        names = [event["event_type"] for event in history["events"]]
        assert "connection.stale" in names
    finally:
        os.kill(client.process.pid, signal.SIGCONT)
        await client.kill()
