"""Heartbeats are taken out of a server's stream, whatever the packets look like, and nothing else is touched."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from pulsetrail.chaos.frames import ServerStream

HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


class Part(NamedTuple):
    raw: bytes
    is_heartbeat: bool

    def __repr__(self) -> str:
        return f"<{len(self.raw)} bytes {self.raw[:24]!r}{', a heartbeat' if self.is_heartbeat else ''}>"


def frame(payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin=fin).serialize(mask=False)


HEARTBEAT = frame(b'{"type":"heartbeat"}')
COMPRESSED = bytes((HEARTBEAT[0] | 0x40,)) + HEARTBEAT[1:]


heartbeats = st.builds(
    lambda seq, fill: Part(frame(b'{"type":"heartbeat","seq":%d,"fill":"%b"}' % (seq, b"x" * fill)), True),
    st.integers(0, 10**6),
    st.sampled_from((0, 100, 200, 70_000)),
) | st.just(Part(HEARTBEAT, True))
others = st.builds(
    lambda payload, opcode: Part(frame(payload, opcode), False),
    st.binary(max_size=300)
    | st.sampled_from(
        (b"", b"{", b'{"type":"heartbea', b'{"type":"update"}', b'{"type":"heartbroken"}', b"x" * 70_000)
    ),
    st.sampled_from((Opcode.TEXT, Opcode.BINARY)),
) | st.sampled_from(
    (
        Part(frame(b"now?", Opcode.PING), False),
        Part(frame(b"\x03\xe8", Opcode.CLOSE), False),
        # Half a message, and a compressed one: taking it out would break what follows, or cannot be told.
        Part(frame(b'{"type":"heartbeat"', fin=False) + frame(b"}", Opcode.CONT), False),
        Part(COMPRESSED, False),
        Part(frame(b'{"type":"heartbeat"}', Opcode.BINARY), False),
    )
)


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(places)]


@given(st.lists(heartbeats | others, max_size=12), st.lists(st.integers(0, 1 << 20), max_size=30), st.booleans())
def test_only_heartbeats_are_missing_however_the_stream_is_cut(parts: list[Part], cuts: list[int], drop: bool) -> None:
    stream = ServerStream()
    cut = pieces(HEAD + b"".join(part.raw for part in parts), cuts)
    forwarded = b"".join(stream.take(piece, drop_heartbeats=drop) for piece in cut)
    assert forwarded == HEAD + b"".join(part.raw for part in parts if not (drop and part.is_heartbeat))
    assert stream.dropped == (sum(part.is_heartbeat for part in parts) if drop else 0)
    assert stream.is_websocket


@given(st.lists(heartbeats | others, max_size=12), st.lists(st.integers(0, 1 << 20), max_size=30), st.data())
def test_framing_survives_a_fault_that_comes_and_goes_within_a_frame(
    parts: list[Part], cuts: list[int], data: st.DataObject
) -> None:
    stream = ServerStream()
    cut = pieces(HEAD + b"".join(part.raw for part in parts), cuts)
    forwarded = b"".join(stream.take(piece, drop_heartbeats=data.draw(st.booleans())) for piece in cut)
    forwarded += stream.take(b"", drop_heartbeats=False)
    rest = forwarded.removeprefix(HEAD)
    for part in parts:
        if rest.startswith(part.raw):
            rest = rest[len(part.raw) :]
        else:
            assert part.is_heartbeat, "whatever is not there whole was a heartbeat, and is not there at all"
    assert not rest


@given(st.binary(max_size=200), st.lists(st.integers(0, 1 << 20), max_size=10))
def test_what_is_no_websocket_passes_untouched(payload: bytes, cuts: list[int]) -> None:
    for answer in (b"HTTP/1.1 200 OK\r\n\r\n" + HEARTBEAT + payload, b"SSH-2.0-x\r\n" + payload):
        stream = ServerStream()
        assert b"".join(stream.take(piece, drop_heartbeats=True) for piece in pieces(answer, cuts)) == answer
        assert not stream.is_websocket


def test_the_first_bytes_of_a_greeting_are_not_held_back() -> None:
    stream = ServerStream()
    assert stream.take(b"HTTP/1.1 10", drop_heartbeats=True) == b"HTTP/1.1 10"
