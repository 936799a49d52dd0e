"""Reading a request's body without trusting it: neither its length, nor its compression."""

from __future__ import annotations

import zlib
from typing import Final

from starlette.requests import ClientDisconnect, Request

GZIP: Final = 31
"""zlib's window bits for a gzip header and trailer (RFC 1952)."""


class TooLarge(Exception):
    """The body, or what it unpacks to, is larger than the cap."""


class Unreadable(Exception):
    """The body is not what its headers say, or its sender has gone."""


async def read_body(request: Request, cap: int) -> bytes:
    """The body as it was sent, at most ``cap`` bytes.

    Raises:
        TooLarge: it is larger, by its header or by what arrives.
        Unreadable: the sender hung up.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > cap:
        raise TooLarge
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > cap:
                raise TooLarge
            chunks.append(chunk)
    except ClientDisconnect:
        raise Unreadable("the sender hung up") from None
    return b"".join(chunks)


def unpack(body: bytes, encoding: str, cap: int) -> bytes:
    """The body without its ``Content-Encoding``; unpacking stops at ``cap`` bytes.

    Raises:
        TooLarge: it unpacks to more.
        Unreadable: the encoding is neither gzip nor identity, or the data is damaged or cut.
    """
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip"):
        raise Unreadable("the content encoding is not gzip")
    unpacker = zlib.decompressobj(GZIP)
    try:
        data = unpacker.decompress(body, cap + 1)
    except zlib.error:
        raise Unreadable("the body is not gzip") from None
    if len(data) > cap:
        raise TooLarge
    if not unpacker.eof or unpacker.unused_data:
        raise Unreadable("the gzip data is cut or followed by something else")
    return data
