"""A WebSocket client over a bare asyncio protocol: cheap enough for ten thousand in one process.

It speaks what the service speaks (RFC 6455 without extensions): text frames, ping, close. It keeps nothing but the
bytes that are not a whole frame yet, and tells its ``Owner`` what it sees until the owner leaves it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from base64 import b64encode
from hashlib import sha1
from os import urandom
from typing import Final, Protocol

TEXT: Final = 0x1
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

CLOSING_SECONDS: Final = 5.0
"""How long the service may take to end a connection that we have closed."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class Owner(Protocol):
    """Who a link tells what it sees."""

    def upgraded(self) -> None:
        """The 101 arrived, and it is the answer to our key."""

    def refused(self, status: int) -> None:
        """Another status arrived."""

    def message(self, data: bytes) -> None:
        """A text message arrived."""

    def closed(self, code: int | None) -> None:
        """A close frame arrived; it has been answered."""

    def lost(self, error: Exception | None) -> None:
        """The socket is gone; ``error`` is ``None`` when the other side ended it with a FIN. Comes last, once."""


class Link(asyncio.Protocol):
    """One connection, from the TCP connection to its loss."""

    __slots__ = ("_accept", "_buffer", "_is_open", "_owner", "_request", "_transport")

    def __init__(self, owner: Owner, host: str, port: int, path: str) -> None:
        key = b64encode(urandom(16))
        self._accept = b64encode(sha1(key + _GUID).digest())  # noqa: S324 - the protocol says so
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Protocol: pulsetrail.v1\r\n\r\n"
        ).encode()
        self._owner: Owner | None = owner
        self._buffer = b""
        self._is_open = False
        self._transport: asyncio.Transport | None = None

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if self._owner is None:  # left before it was there
            transport.abort()
        else:
            transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open and not self._read_answer():
            return
        while self._owner is not None and (frame := self._next_frame()) is not None:
            opcode, payload = frame
            if opcode == TEXT:
                self._owner.message(payload)
            elif opcode == PING:
                self._write(PONG, payload)
            elif opcode == CLOSE:
                self._write(CLOSE, payload[:2])
                self._owner.closed(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._owner is not None:
            self._owner.lost(error)

    # --- for its owner; after each but the first it hears nothing more ---

    def send(self, data: bytes) -> None:
        """Send a text message of less than 126 bytes."""
        self._write(TEXT, data)

    def close(self, code: int) -> None:
        """Begin the closing handshake; the service ends the connection."""
        self._owner = None
        self._write(CLOSE, code.to_bytes(2, "big"))
        asyncio.get_running_loop().call_later(CLOSING_SECONDS, self.vanish)

    def vanish(self) -> None:
        """End the connection without a close frame, as a process does that is killed: the service sees a FIN."""
        self._owner = None
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """End it with a RST."""
        self._owner = None
        if self._transport is not None:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    # --- frames ---

    def _read_answer(self) -> bool:
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or self._owner is None:
            return False
        status = int(head.split(b" ", 2)[1])
        if status == 101 and self._accept in head:
            self._buffer = rest
            self._is_open = True
            self._owner.upgraded()
            return True
        self._owner.refused(status)
        if self._transport is not None:
            self._transport.close()
        return False

    def _next_frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1], 2  # a server's frames have no mask
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + length:
            return None
        self._buffer = buffer[start + length :]
        return buffer[0] & 0x0F, buffer[start : start + length]

    def _write(self, opcode: int, payload: bytes) -> None:
        """One short frame; its mask is zero, which is a mask like any other and costs nothing."""
        if self._transport is not None:
            self._transport.write(bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload)
