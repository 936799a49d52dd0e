"""How connections end, as real sockets see it and as the log has it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import struct
from typing import Any

import pytest
from gateway_runner import Running, Start, receive
from websockets.exceptions import ConnectionClosed

from pulsetrail_service.connections import Connection


class RawClient:
    """A WebSocket client that does as it is told, right or wrong."""

    def __init__(self, sock: socket.socket, connection: str) -> None:
        self.sock = sock
        self.connection = connection

    @classmethod
    async def connect(cls, running: Running, query: str = "", receive_buffer: int | None = None) -> RawClient:
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await loop.sock_connect(sock, ("127.0.0.1", running.port))
        key = base64.b64encode(os.urandom(16)).decode()
        await loop.sock_sendall(
            sock,
            (
                f"GET /ws/updates?{query} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\nUpgrade: websocket\r\n"
                f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
            ).encode(),
        )
        data = b""
        while b'"type":"welcome"' not in data or not data.endswith(b"}"):
            data += await asyncio.wait_for(loop.sock_recv(sock, 65536), 10)
        assert data.startswith(b"HTTP/1.1 101"), data[:200]
        welcome = json.loads(data[data.index(b'{"type"') :])
        return cls(sock, welcome["connection"])

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def close_code(self) -> int | None:
        """The code of the server's close frame; ``None`` if there was none."""
        data = b""
        async with asyncio.timeout(10):
            while True:
                try:
                    part = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
                except ConnectionResetError:
                    part = b""
                data += part
                if not part:
                    break
        code = None
        while data:
            size, head = data[1], 2
            if size == 126:
                size, head = int.from_bytes(data[2:4], "big"), 4
            if data[0] == 0x88:
                code = int.from_bytes(data[head : head + 2], "big")
            data = data[head + size :]
        return code

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


def frame(opcode: int, payload: bytes, *, masked: bool = True, final: bool = True, reserved: int = 0) -> bytes:
    """One client frame."""
    first = (0x80 if final else 0) | reserved | opcode
    size = len(payload)
    mask_bit = 0x80 if masked else 0
    head = bytes((first, mask_bit | size)) if size < 126 else bytes((first, mask_bit | 126)) + size.to_bytes(2, "big")
    return head + (bytes(4) if masked else b"") + payload


async def end_of(running: Running, connection: str) -> tuple[str | None, int | None, dict[str, Any]]:
    event, payload = await running.end_of(connection)
    return event.reason, event.close_code, payload


async def test_a_close_with_1000_is_normal_and_the_clients(gateway: Start) -> None:
    async with gateway() as running:
        async with running.client("client=ann&page=p1") as client:
            welcome = await receive(client, "welcome")
        reason, code, payload = await end_of(running, welcome["connection"])
        assert (reason, code) == ("normal", 1000)
        assert (payload["initiator"], payload["phase"], payload["was_clean"]) == ("client", "open", True)
        assert payload["evidence"]["first_actor"] == "peer"


async def test_a_close_frame_without_a_code_is_told_from_a_socket_that_vanished(gateway: Start) -> None:
    async with gateway() as running:
        polite, rude = await RawClient.connect(running), await RawClient.connect(running)
        await polite.send(frame(0x8, b""))
        rude.close()
        reason, code, _ = await end_of(running, polite.connection)
        assert (reason, code) == ("normal", 1005)
        reason, code, payload = await end_of(running, rude.connection)
        assert (reason, code) == ("peer_vanished", None)
        assert payload["initiator"] == "unknown"
        assert payload["evidence"]["eof"] is True
        polite.close()


async def test_a_reset_is_told_from_a_fin(gateway: Start) -> None:
    async with gateway() as running:
        client = await RawClient.connect(running)
        client.reset()
        reason, _, payload = await end_of(running, client.connection)
        assert reason == "peer_reset"
        assert payload["evidence"]["error"] == "ECONNRESET"


async def test_the_clients_own_code_is_its_reason(gateway: Start) -> None:
    async with gateway() as running:
        async with running.client() as client:
            welcome = await receive(client, "welcome")
            await client.close(4102, "freeze")
        reason, code, payload = await end_of(running, welcome["connection"])
        assert (reason, code, payload["client_code"]) == ("client_asleep", 4102, 4102)
        assert payload["detail"] == "freeze"


async def test_a_client_that_never_reads_ends_as_slow_consumer_and_nobody_waits_for_it(gateway: Start) -> None:
    async with gateway(send_buffer_bytes=65536) as running:
        slow = await RawClient.connect(running, receive_buffer=4096)
        async with running.client() as healthy:
            await receive(healthy, "welcome")
            for number in range(200):
                await running.gateway.broadcaster.publish("bulk", {"number": number, "fill": "x" * 50_000})
                assert (await receive(healthy, "update"))["data"]["number"] == number
            reason, _, payload = await end_of(running, slow.connection)
            assert reason == "slow_consumer"
            assert payload["initiator"] == "server"
            assert 65536 < payload["evidence"]["bytes_unsent"] < 65536 + 60_000
        slow.close()


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (frame(0x1, b"x" * 2000), 1009, "message_too_big"),
        (frame(0x1, b"x" * 600, final=False) + frame(0x0, b"x" * 600), 1009, "message_too_big"),
        (frame(0x1, b"{}", masked=False), 1002, "protocol_error"),
        (frame(0x1, b"{}", reserved=0x40), 1002, "protocol_error"),
        (frame(0x3, b"{}"), 1002, "protocol_error"),
        (frame(0x0, b"{}"), 1002, "protocol_error"),
        (frame(0x9, b"x" * 126), 1002, "protocol_error"),
        (frame(0x8, (999).to_bytes(2, "big")), 1002, "protocol_error"),
        (frame(0x8, (1000).to_bytes(2, "big") + b"\xff"), 1007, "protocol_error"),
        (frame(0x1, b'{"type":"\xff"}'), 1007, "protocol_error"),
        (frame(0x1, b"not json"), 1007, "protocol_error"),
        (frame(0x1, b"[1,2]"), 1007, "protocol_error"),
        (frame(0x2, b"{}"), 1003, "protocol_error"),
    ],
    ids=[
        "too big",
        "too big in fragments",
        "unmasked",
        "reserved bits",
        "unknown opcode",
        "continuation of nothing",
        "long ping",
        "close code that may not be sent",
        "close reason that is no UTF-8",
        "text that is no UTF-8",
        "text that is no JSON",
        "JSON that is no object",
        "binary",
    ],
)
async def test_broken_frames_get_the_right_code_and_are_the_clients_fault(
    gateway: Start, data: bytes, code: int, reason: str
) -> None:
    async with gateway(max_message_bytes=1024) as running:
        client = await RawClient.connect(running)
        async with running.client() as bystander:
            await receive(bystander, "welcome")
            await client.send(data)
            assert await client.close_code() == code
            found, close_code, payload = await end_of(running, client.connection)
            assert (found, close_code, payload["initiator"]) == (reason, code, "client")
            await bystander.send('{"type":"probe","id":1}')
            assert (await receive(bystander, "probe_ok"))["id"] == 1
        client.close()


async def test_a_flood_of_messages_ends_as_rate_limited(gateway: Start) -> None:
    async with gateway() as running, running.client() as client:
        welcome = await receive(client, "welcome")
        for _ in range(200):
            await client.send('{"type":"pong"}')
        with pytest.raises(ConnectionClosed):
            await receive(client, "nothing of this name")
        assert (await end_of(running, welcome["connection"]))[:2] == ("rate_limited", 4205)


async def test_a_page_in_fragments_is_one_message(gateway: Start) -> None:
    async with gateway() as running:
        client = await RawClient.connect(running)
        await client.send(frame(0x1, b'{"type":"pr', final=False))
        await client.send(frame(0x9, b"between"))
        await client.send(frame(0x0, b'obe","id":"abc"}'))
        data = b""
        while b"probe_ok" not in data:
            data += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client.sock, 4096), 10)
        assert b'"id":"abc"' in data
        client.close()


async def test_a_server_that_stops_sends_hints_and_1012_and_records_the_phase(gateway: Start) -> None:
    async with gateway(reconnect_spread=10.0) as running:
        clients = [await running.client() for _ in range(5)]
        welcomes = [await receive(client, "welcome") for client in clients]
        running.stop()
        hints = [await receive(client, "go_away") for client in clients]
        assert {hint["reason"] for hint in hints} == {"server_shutdown"}
        assert len({hint["retry_after_ms"] for hint in hints}) > 1, "hints are drawn for each client"
        assert all(0 <= hint["retry_after_ms"] <= 10_000 for hint in hints)
        for client in clients:
            await client.wait_closed()
            assert client.close_code == 1012
        for welcome in welcomes:
            reason, code, payload = await end_of(running, welcome["connection"])
            assert (reason, code, payload["phase"]) == ("server_shutdown", 1012, "draining")
    _, stopped = await running.event("node.stopped")
    assert stopped["drained"] == 5


async def test_a_fault_of_our_own_is_called_one_and_harms_nobody_else(
    gateway: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(connection: Connection, data: bytes, now: float) -> None:
        if b"trip" in data:
            raise RuntimeError("a bug")
        handle(connection, data, now)

    handle = Connection._message
    monkeypatch.setattr(Connection, "_message", fail)
    async with gateway() as running, running.client() as unlucky, running.client() as bystander:
        welcome = await receive(unlucky, "welcome")
        await unlucky.send('{"type":"trip"}')
        with pytest.raises(ConnectionClosed):
            await receive(unlucky, "nothing of this name")
        assert unlucky.close_code == 1011
        assert (await end_of(running, welcome["connection"]))[:2] == ("internal_error", 1011)
        await bystander.send('{"type":"probe","id":1}')
        await receive(bystander, "probe_ok")
