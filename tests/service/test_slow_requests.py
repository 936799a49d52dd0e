"""Requests that never end, over real sockets."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from gateway_runner import Running, Start, receive

from pulsetrail import bounded_http


async def until_closed(running: Running, opening: bytes, *, trickle: bytes = b"") -> bytes:
    """Send an opening, then a byte now and again, until the server has had enough; returns what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(opening)
    said = b""
    try:
        async with asyncio.timeout(10):
            while True:
                if trickle:
                    writer.write(trickle)
                try:
                    async with asyncio.timeout(0.05):
                        part = await reader.read(65536)
                except TimeoutError:
                    continue
                except ConnectionResetError:
                    return said
                if not part:
                    return said
                said += part
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("opening", "trickle"),
    [
        (b"", b""),
        (b"GET /ws/updates HTTP/1.1\r\nHost: x\r\n", b"X-Slow: 1\r\n"),
        (b"POST /v1/updates HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"x"),
    ],
    ids=["nothing at all", "a slow handshake", "a slow body"],
)
async def test_a_request_that_does_not_end_is_dropped(
    gateway: Start, monkeypatch: pytest.MonkeyPatch, opening: bytes, trickle: bytes
) -> None:
    monkeypatch.setattr(bounded_http, "REQUEST_SECONDS", 0.5)
    async with gateway() as running:
        await until_closed(running, opening, trickle=trickle)


async def test_a_head_without_end_is_refused(gateway: Start) -> None:
    async with gateway() as running:
        said = await until_closed(running, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"x" * 100_000)
        assert said.startswith(b"HTTP/1.1 400")


async def test_a_patient_client_is_not_hurried(gateway: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "REQUEST_SECONDS", 0.5)
    async with gateway() as running, running.client() as client, httpx.AsyncClient(base_url=running.http) as http:
        await receive(client, "welcome")
        assert (await http.get("/healthz")).status_code == 200
        await asyncio.sleep(1.0)  # the time itself is what is tested: both connections outlive the deadline
        assert (await http.get("/healthz")).status_code == 200
        await client.send('{"type":"probe","id":1}')
        await receive(client, "probe_ok")
