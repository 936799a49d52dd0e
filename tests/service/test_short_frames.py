"""The short way of reading a frame says what the parser of ``websockets`` says, or nothing."""

from __future__ import annotations

from typing import cast

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side

from pulsetrail_service.frames import is_short_pong, message_frame, ping_frame, short_text, text_frame


def masked(first: int, payload: bytes, mask: bytes, *, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    scrambled = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((first, 0x80 | size & 0x7F)) + mask + scrambled


def parsed(data: bytes) -> tuple[list[Frame], bool]:
    """The frames that the library reads, and whether it is content and has nothing left over."""
    framing = Protocol(Side.SERVER, max_size=1 << 20)
    framing.receive_data(data)
    frames = cast("list[Frame]", framing.events_received())
    return frames, framing.parser_exc is None and not framing.reader.buffer


MASKS = st.binary(min_size=4, max_size=4)
WHOLE = st.builds(
    masked,
    st.sampled_from([0x81, 0x01, 0x80, 0x82, 0x88, 0x89, 0x8A, 0x0A, 0xC1, 0x91]),
    st.binary(max_size=125),
    MASKS,
    length=st.none() | st.integers(0, 127),
)


@given(st.one_of(WHOLE, st.binary(max_size=140), st.builds(lambda a, b: a + b, WHOLE, st.binary(max_size=3))))
@example(masked(0x81, b"", bytes(4)))
@example(b"")
def test_the_short_way_agrees_with_the_library(data: bytes) -> None:
    text = short_text(data)
    if text is not None:
        frames, content = parsed(data)
        assert content
        assert [(frame.opcode, frame.fin, bytes(frame.data)) for frame in frames] == [(Opcode.TEXT, True, text)]
    if is_short_pong(data):
        frames, content = parsed(data)
        assert content
        assert [(frame.opcode, frame.fin) for frame in frames] == [(Opcode.PONG, True)]


@given(st.binary(max_size=125), MASKS)
def test_a_short_frame_of_a_page_always_goes_the_short_way(payload: bytes, mask: bytes) -> None:
    assert short_text(masked(0x81, payload, mask)) == payload
    assert is_short_pong(masked(0x8A, payload, mask))


@given(st.binary(max_size=70_000))
def test_a_prepared_frame_is_read_as_it_was_meant(payload: bytes) -> None:
    reader = Protocol(Side.CLIENT, max_size=1 << 20)
    reader.receive_data(text_frame(payload) + ping_frame(payload[:125]))
    read = [(frame.opcode, bytes(frame.data)) for frame in cast("list[Frame]", reader.events_received())]
    assert read == [(Opcode.TEXT, payload), (Opcode.PING, payload[:125])]
    assert message_frame({"type": "pong"}) == text_frame(b'{"type":"pong"}')
