"""What a hostile client tries, and that nobody else notices."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import httpx
import pytest
from gateway_runner import Running, Start, receive
from test_endings import RawClient, end_of, frame

UPGRADE = (
    b"GET /ws/updates?client=x HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


def reset_at_once(running: Running) -> None:
    """Ask for an upgrade and reset the connection without waiting for it."""
    sock = socket.create_connection(("127.0.0.1", running.port))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.sendall(UPGRADE + b"\r\n")
    sock.close()


async def test_a_reset_right_after_the_request_ends_what_was_opened_and_the_broadcast_goes_on(gateway: Start) -> None:
    async with gateway() as running, running.client() as client:
        await receive(client, "welcome")
        for _ in range(20):
            reset_at_once(running)
            await asyncio.sleep(0.005)
        await running.gateway.broadcaster.publish("t", 1)
        await receive(client, "update")
        async with asyncio.timeout(10):
            while len(running.gateway.hub) > 1:
                await asyncio.sleep(0.02)
        await running.event("connection.opened")
        events = await running.events()
        opened = {event.connection_id for event in events if event.event_type == "connection.opened"}
        async with asyncio.timeout(10):
            while True:
                events = await running.events()
                ended = [event.connection_id for event in events if event.event_type == "connection.closed"]
                if len(ended) >= len(opened) - 1:
                    break
                await asyncio.sleep(0.02)
        assert len(ended) == len(set(ended))


@pytest.mark.parametrize(
    "header",
    [b"X: " + b"a" * 9000, b"\r\n".join(b"X%d: y" % number for number in range(300))],
    ids=["a long line", "many lines"],
)
async def test_a_handshake_that_cannot_be_read_is_answered(gateway: Start, header: bytes) -> None:
    async with gateway() as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(UPGRADE + header + b"\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 10)
        assert said.startswith(b"HTTP/1.1 431")
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("frames", "answered"), [(1, True), (4000, False)])
async def test_what_comes_before_the_answer_waits_for_it_within_a_bound(
    gateway: Start, frames: int, answered: bool
) -> None:
    early = frame(0x1, b'{"type":"probe","id":7}') * frames
    async with gateway() as running:
        running.gateway.journal._writer._queue.put(lambda: time.sleep(0.5))  # a disk that takes its time
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(UPGRADE + b"\r\n")
        await asyncio.sleep(0.1)
        writer.write(early)
        said = b""
        try:
            async with asyncio.timeout(5):
                while b"probe_ok" not in said and (part := await reader.read(65536)):
                    said += part
        except ConnectionResetError:
            pass
        writer.close()
        assert (b"probe_ok" in said) is answered
        await running.event("connection.closed")  # on record as opened, so it ends, answered or not


@pytest.mark.parametrize(
    "text", [b"[" * 5000 + b"]" * 5000, b'{"type":"probe","id":' + b"[" * 5000 + b"]" * 5000 + b"}"]
)
async def test_a_message_nested_without_end_is_the_clients_fault(gateway: Start, text: bytes) -> None:
    async with gateway() as running:
        client = await RawClient.connect(running)
        await client.send(frame(0x1, text))
        assert await client.close_code() == 1007
        assert (await end_of(running, client.connection))[:2] == ("protocol_error", 1007)
        client.close()


async def test_a_foreign_page_can_neither_publish_nor_look(gateway: Start) -> None:
    update = b'{"topic":"prices","data":"evil"}'
    foreign = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
    rebound = {"Host": "evil.example"}
    async with gateway() as running, httpx.AsyncClient(base_url=running.http) as http:
        assert (await http.post("/v1/updates", content=update, headers=foreign)).status_code == 403
        assert (await http.post("/v1/updates", content=update, headers=rebound)).status_code == 401
        assert (await http.get("/metrics", headers=rebound)).status_code == 401
        assert (await http.post("/v1/updates", content=update)).status_code == 202


@pytest.mark.parametrize("data", [b"NaN", b"-Infinity", b'"\\ud800"', b"[" * 5000 + b"]" * 5000])
async def test_an_update_that_json_has_no_word_for_is_refused(gateway: Start, data: bytes) -> None:
    async with gateway() as running, httpx.AsyncClient(base_url=running.http) as http:
        answer = await http.post("/v1/updates", content=b'{"topic":"t","data":' + data + b"}")
        assert answer.status_code == 400
