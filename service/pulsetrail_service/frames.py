"""Server frames as bytes (RFC 6455, section 5.2): unmasked, final, made once and written to any number of clients."""

from __future__ import annotations

from typing import Any

import msgspec

_TEXT = 0x81
_PING = 0x89

encode_json = msgspec.json.Encoder().encode


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 1 << 16:
        return bytes((opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((opcode, 127)) + size.to_bytes(8, "big") + payload


def text_frame(payload: bytes) -> bytes:
    """A text frame with a UTF-8 payload."""
    return _frame(_TEXT, payload)


def message_frame(message: dict[str, Any]) -> bytes:
    """A text frame with a message of the protocol."""
    return _frame(_TEXT, encode_json(message))


def ping_frame(payload: bytes = b"") -> bytes:
    """A ping frame; ``payload`` of at most 125 bytes comes back in the pong."""
    return _frame(_PING, payload)
