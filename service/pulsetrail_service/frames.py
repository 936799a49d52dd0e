"""Server frames as bytes (RFC 6455, section 5.2): unmasked, final, made once and written to any number of clients."""

from __future__ import annotations

from typing import Any, Final

import msgspec

try:
    from websockets.speedups import apply_mask
except ImportError:  # websockets was built without its C extension
    from websockets.utils import apply_mask

_TEXT: Final = 0x81
_PING: Final = 0x89
_PONG: Final = 0x8A
_MASKED: Final = 0x80

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


def short_text(data: bytes) -> bytes | None:
    """The payload, when ``data`` is one whole masked text frame of at most 125 bytes and nothing else: all that a page
    sends in the ordinary course of things. Everything else is for a parser."""
    size = len(data) - 6
    if 0 <= size < 126 and data[0] == _TEXT and data[1] == _MASKED | size:
        return apply_mask(data[6:], data[2:6])
    return None


def is_short_pong(data: bytes) -> bool:
    """Whether ``data`` is one whole masked pong and nothing else."""
    size = len(data) - 6
    return 0 <= size < 126 and data[0] == _PONG and data[1] == _MASKED | size
