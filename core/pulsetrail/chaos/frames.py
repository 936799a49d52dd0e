"""A WebSocket server's stream, followed closely enough to take single messages out of it. Pure.

A server's frames are not masked (RFC 6455, section 5.1), so that a message can be recognised by its first bytes.
Whatever is no WebSocket passes untouched.
"""

from __future__ import annotations

from typing import Final

HEARTBEAT: Final = b'{"type":"heartbeat"'
_SWITCHING: Final = b"HTTP/1.1 101"
_MAX_HEAD: Final = 32 * 1024
_WHOLE_TEXT: Final = 0x81
"""FIN and the opcode of a text, no extension bit: a message in one frame, not compressed."""


class ServerStream:
    """One connection's bytes from server to client."""

    def __init__(self) -> None:
        self.is_websocket = False
        """The server has switched protocols."""
        self.dropped = 0
        """Heartbeats that were taken out."""
        self._head: bytearray | None = bytearray()
        """What came before frames; ``None`` once the rest is of no interest."""
        self._undecided = bytearray()
        """The beginning of a frame whose fate is not clear yet: a header, and the first bytes of its payload."""
        self._left = 0
        """Bytes of the current frame that are still to come."""
        self._dropping = False

    def take(self, data: bytes, *, drop_heartbeats: bool) -> bytes:
        """The bytes to forward. Heartbeats that begin while ``drop_heartbeats`` holds are not among them."""
        if self.is_websocket:
            return self._frames(data, drop_heartbeats)
        if self._head is None:
            return data
        before = len(self._head)
        self._head += data
        end = self._head.find(b"\r\n\r\n", 0, _MAX_HEAD)
        if end < 0 or not self._head.startswith(_SWITCHING):
            if len(self._head) > _MAX_HEAD or not self._head.startswith(_SWITCHING[: len(self._head)]):
                self._head = None
            return data
        self.is_websocket, self._head = True, None
        of_head = end + 4 - before
        return data[:of_head] + self._frames(data[of_head:], drop_heartbeats)

    def _frames(self, data: bytes, drop_heartbeats: bool) -> bytes:
        forwarded = bytearray()
        rest = self._undecided + data
        self._undecided = bytearray()
        while rest:
            if not self._left:
                size = _frame_size(rest)
                if size is None or (drop_heartbeats and _may_become_heartbeat(rest, size)):
                    self._undecided = rest
                    break
                self._left = size
                self._dropping = drop_heartbeats and _is_heartbeat(rest, size)
                self.dropped += self._dropping
            if not self._dropping:
                forwarded += rest[: self._left]
            taken = min(self._left, len(rest))
            self._left -= taken
            del rest[:taken]
        return bytes(forwarded)


def _header(frame: bytes | bytearray) -> int:
    """Length of the header, from its first two bytes."""
    return 2 + {126: 2, 127: 8}.get(frame[1] & 0x7F, 0) + (4 if frame[1] & 0x80 else 0)


def _frame_size(frame: bytearray) -> int | None:
    """Length of the frame that begins here, header included; ``None`` while too little of it is there."""
    if len(frame) < 2 or len(frame) < _header(frame):
        return None
    short = frame[1] & 0x7F
    extended = {126: 2, 127: 8}.get(short, 0)
    payload = int.from_bytes(frame[2 : 2 + extended], "big") if extended else short
    return _header(frame) + payload


def _could_be_heartbeat(frame: bytearray, size: int) -> bool:
    return frame[0] == _WHOLE_TEXT and not frame[1] & 0x80 and size - _header(frame) >= len(HEARTBEAT)


def _may_become_heartbeat(frame: bytearray, size: int) -> bool:
    """Whether it takes more bytes to tell."""
    seen = frame[_header(frame) : _header(frame) + len(HEARTBEAT)]
    return _could_be_heartbeat(frame, size) and len(seen) < len(HEARTBEAT) and HEARTBEAT.startswith(seen)


def _is_heartbeat(frame: bytearray, size: int) -> bool:
    start = _header(frame)
    return _could_be_heartbeat(frame, size) and frame[start : start + len(HEARTBEAT)] == HEARTBEAT
