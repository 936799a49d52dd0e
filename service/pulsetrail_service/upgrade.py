"""The server's part of the opening handshake (RFC 6455, section 4.2), over headers that are parsed already.

Pure: bytes in, bytes out. What a page asks for in its query is the business of ``handshake``.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from http import HTTPStatus
from typing import Final, NamedTuple

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

MAX_HEADERS: Final = 128
MAX_HEADER_BYTES: Final = 8192

_SWITCHING: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)


class Upgrade(NamedTuple):
    """A request to become a WebSocket. Header names are in lower case, as ASGI has them."""

    client: tuple[str, int] | None
    tls: bool
    method: bytes
    http_version: str
    query: bytes
    headers: list[tuple[bytes, bytes]]


class BadUpgrade(Exception):
    """The request is no handshake that RFC 6455 allows; ``status`` and the text are the answer."""

    def __init__(self, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


def accept_key(upgrade: Upgrade) -> bytes:
    """The value of ``Sec-WebSocket-Accept``.

    Raises:
        BadUpgrade: the request is not a handshake of version 13, or its head is larger than anybody needs.
    """
    headers = upgrade.headers
    if len(headers) > MAX_HEADERS or any(len(value) > MAX_HEADER_BYTES for _, value in headers):
        raise BadUpgrade(431, f"more than {MAX_HEADERS} headers, or one of more than {MAX_HEADER_BYTES} bytes")
    if upgrade.method != b"GET" or upgrade.http_version != "1.1":
        raise BadUpgrade(400, "a handshake is a GET of HTTP/1.1")
    keys = [value for name, value in headers if name == b"sec-websocket-key"]
    versions = [value for name, value in headers if name == b"sec-websocket-version"]
    if versions != [b"13"]:
        raise BadUpgrade(426, "Sec-WebSocket-Version must be 13", (b"sec-websocket-version", b"13"))
    if len(keys) != 1 or not _is_key(keys[0]):
        raise BadUpgrade(400, "Sec-WebSocket-Key must be 16 bytes in base64, once")
    return b64encode(hashlib.sha1(keys[0] + _GUID, usedforsecurity=False).digest())


def _is_key(value: bytes) -> bool:
    try:
        return len(b64decode(value, validate=True)) == 16
    except Base64Error:
        return False


def subprotocols(headers: list[tuple[bytes, bytes]]) -> list[str]:
    """What the client offers, in its order."""
    offered: list[str] = []
    for name, value in headers:
        if name == b"sec-websocket-protocol":
            offered += [token.strip() for token in value.decode("latin-1").split(",")]
    return offered


def switching_protocols(accept: bytes, subprotocol: str | None) -> bytes:
    """The 101 response."""
    if subprotocol is None:
        return _SWITCHING + accept + b"\r\n\r\n"
    return _SWITCHING + accept + b"\r\nSec-WebSocket-Protocol: " + subprotocol.encode() + b"\r\n\r\n"


def plain_response(status: int, content_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> bytes:
    """A whole response that is none of a WebSocket's; the connection is closed after it."""
    fields = (*headers, (b"content-type", content_type), (b"content-length", b"%d" % len(body)))
    head = b"HTTP/1.1 %d %b\r\n" % (status, HTTPStatus(status).phrase.encode())
    return b"%b%bconnection: close\r\n\r\n%b" % (head, b"".join(b"%b: %b\r\n" % field for field in fields), body)
