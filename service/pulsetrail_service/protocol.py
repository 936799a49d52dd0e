"""The WebSocket protocol class: moves bytes, and keeps what it sees of an end as ``Evidence``.

Stock servers report a FIN, a RST, a close without code and their own ping timeout all as 1005; here they stay apart.
Frames go straight to a ``Listener``, without a task, a queue or a message object for each.

What a page sends in the ordinary course of things is one short masked text frame at a time (``frames.short_text``).
Everything else (fragments, several frames at once, control frames, mistakes) is for the parser of ``websockets``, which
a socket gets when it first needs it: most never do, and are spared its memory.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import MutableSet
from typing import Any, Final, Protocol, cast

from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol as Framing
from websockets.protocol import Side

from pulsetrail.close_codes import Reason
from pulsetrail.events import Evidence, Layers, TcpInfo
from pulsetrail.evidence import NO_STATUS
from pulsetrail_service.frames import is_short_pong, short_text
from pulsetrail_service.tcp_info import read_tcp_info, tune

EARLY_BYTES: Final = 65_536
"""What a client may send before its handshake is answered, though RFC 6455 tells it to wait."""

logger = logging.getLogger("pulsetrail.gateway")
_framing_logger = logging.getLogger("websockets.server")


class Listener(Protocol):
    """Who hears of an accepted socket. Calls come from the event loop, in order, and do not await."""

    def text(self, data: bytes) -> None:
        """A whole text message."""

    def binary(self) -> None:
        """A binary message, which the protocol has none of."""

    def pong(self) -> None:
        """The browser answered a ping."""

    def cannot_keep_up(self) -> None:
        """More is unsent than the write buffer may hold."""

    def lost(self) -> None:
        """The socket is gone; ``WebSocket.evidence`` says how."""


class WebSocket(asyncio.Protocol):
    """One server-side WebSocket; see the module."""

    __slots__ = (
        "_bytes_unsent",
        "_early",
        "_eof",
        "_exception",
        "_first_actor",
        "_fragments",
        "_fragments_opcode",
        "_frame_error",
        "_framing",
        "_last_byte",
        "_loop",
        "_max_message_bytes",
        "_siblings",
        "_tcp",
        "bytes_in",
        "close_sent",
        "decision",
        "detail",
        "disconnected",
        "listener",
        "transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        siblings: MutableSet[Any],
        max_message_bytes: int,
    ) -> None:
        """Take over a transport whose request for an upgrade has been read; ``siblings`` are the server's open
        connections, which it tells to ``shutdown``."""
        self.transport = transport
        self.listener: Listener | None = None
        self.decision: Reason | None = None
        """Why the server ended it, if it was the server."""
        self.detail: str | None = None
        self.close_sent = False
        self.disconnected = False
        self.bytes_in = 0
        self._loop = loop
        self._siblings = siblings
        self._max_message_bytes = max_message_bytes
        self._framing: Framing | None = None
        self._fragments: list[bytes] = []
        self._fragments_opcode = Opcode.TEXT
        self._early = b""
        self._eof = False
        self._exception: Exception | None = None
        self._first_actor = "nobody"
        self._frame_error: str | None = None
        self._tcp: TcpInfo | None = None
        self._bytes_unsent = 0
        self._last_byte = 0.0
        siblings.add(self)

    # --- the handshake's answer ---

    def accept(self, opening: bytes, listener: Listener, *, write_buffer: int, user_timeout: float) -> None:
        """Write the ``opening`` (the 101 and the first frames) and send everything from now on to ``listener``.

        ``write_buffer`` is the number of unsent bytes at which the listener is told that the client cannot keep up,
        ``user_timeout`` the seconds of ``TCP_USER_TIMEOUT``.
        """
        self.listener = listener
        self._last_byte = self._loop.time()
        if self.is_gone:
            # It went while it was being accepted, and nobody was listening yet. Its transport is of no more use.
            self._loop.call_soon(listener.lost)
            return
        self.transport.set_write_buffer_limits(high=write_buffer)
        tune(self.transport, user_timeout)
        self.transport.write(opening)
        if self._early:
            # At once: what comes next from the socket must not overtake it.
            early, self._early = self._early, b""
            self.data_received(early)

    def refuse(self, opening: bytes, reason: Reason, code: int) -> None:
        """Write the ``opening`` and close at once with ``code``, which a browser can read, unlike a status."""
        if not self.is_gone:
            self.transport.write(opening)
            self._parser().send_close(code, reason)
            self._flush()
            self.close_sent = True

    def answer(self, response: bytes) -> None:
        """Write a plain HTTP response instead of the 101, and close."""
        if not self.is_gone:
            self.transport.write(response)
            self.transport.close()

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.disconnected or self.transport.is_closing()

    # --- events of the transport ---

    def data_received(self, data: bytes) -> None:
        listener = self.listener
        if listener is None and not self.close_sent:
            self._too_early(data)
            return
        self._last_byte = self._loop.time()
        self.bytes_in += len(data)
        try:
            if self._framing is None and listener is not None:
                payload = short_text(data)
                if payload is not None:
                    listener.text(payload)
                    return
                if is_short_pong(data):
                    listener.pong()
                    return
            self._parse(data)
        except Exception:
            logger.exception("a message could not be handled")
            self.end(Reason.INTERNAL_ERROR, 1011, "a message could not be handled")

    def _too_early(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > EARLY_BYTES:
            self.abort()

    def _parse(self, data: bytes) -> None:
        framing = self._parser()
        framing.receive_data(data)
        for frame in framing.events_received():
            self._frame_received(cast("Frame", frame))
        if framing.parser_exc is not None:
            self._give_up_on_frames(framing.parser_exc)
        else:
            self._flush()

    def _parser(self) -> Framing:
        if self._framing is None:
            self._framing = Framing(Side.SERVER, max_size=self._max_message_bytes, logger=_framing_logger)
        return self._framing

    def _frame_received(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            if self._first_actor == "nobody":
                self._first_actor = "peer"
            self._snapshot()
            self._flush()
            self.close_sent = True
            self.transport.close()
        elif frame.opcode is Opcode.PING or self.close_sent:
            return  # websockets has queued the pong; after our close frame nothing else counts
        elif frame.opcode is Opcode.PONG:
            self._listening().pong()
        elif frame.opcode is Opcode.TEXT and frame.fin:
            self._message(Opcode.TEXT, bytes(frame.data))
        else:
            self._fragment(frame)

    def _fragment(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self._fragments_opcode = frame.opcode
            self._fragments = []
        self._fragments.append(bytes(frame.data))
        if frame.fin:
            data, self._fragments = b"".join(self._fragments), []
            self._message(self._fragments_opcode, data)

    def _listening(self) -> Listener:
        assert self.listener is not None  # noqa: S101 - without one, the close frame was sent, and nothing gets here
        return self.listener

    def _message(self, opcode: Opcode, data: bytes) -> None:
        if opcode is Opcode.BINARY:
            self._listening().binary()
        else:
            self._listening().text(data)

    def _give_up_on_frames(self, error: Exception) -> None:
        """The peer broke the framing: websockets has queued the close frame with the right code."""
        if self.close_sent:
            return
        too_big = isinstance(error, PayloadTooBig)
        self.decision = Reason.MESSAGE_TOO_BIG if too_big else Reason.PROTOCOL_ERROR
        self._frame_error = str(error)[:120]
        self._first_actor = "server"
        self._snapshot()
        self._flush()
        self.close_sent = True
        self.transport.close()

    def eof_received(self) -> None:
        self._eof = True
        self._snapshot()

    def connection_lost(self, exc: Exception | None) -> None:
        self._exception = exc
        self._snapshot()
        self.disconnected = True
        self._siblings.discard(self)
        if exc is None:
            self.transport.close()
        if self.listener is not None:
            self.listener.lost()

    def pause_writing(self) -> None:
        if self.listener is not None:
            self.listener.cannot_keep_up()

    def shutdown(self) -> None:
        """The server stops, and what was to be drained is."""
        if self.listener is None:
            self.transport.close()
        else:
            self.end(Reason.SERVER_SHUTDOWN, 1012)

    # --- what the server does ---

    def write(self, frame: bytes) -> None:
        """Send a prepared frame; nothing happens on a socket that is gone."""
        self.transport.write(frame)

    def end(self, reason: Reason, code: int, detail: str | None = None) -> bool:
        """Close with ``code`` for the server's own ``reason``; false if the end had already begun."""
        if self.close_sent or self.is_gone:
            return False
        self.decision = reason
        self.detail = detail
        self._first_actor = "server"
        self._snapshot()
        self._parser().send_close(code, reason)
        self._flush()
        self.close_sent = True
        return True

    def abort(self) -> None:
        """Drop the socket without waiting for anything."""
        self.transport.abort()

    def tcp_info(self) -> TcpInfo | None:
        """The kernel's view now."""
        return read_tcp_info(self.transport)

    def _flush(self) -> None:
        output = self._parser().data_to_send()
        if output and not self.transport.is_closing():
            self.transport.write(b"".join(output))

    # --- evidence ---

    def _snapshot(self) -> None:
        """Keep what the kernel and the buffers show at the first sign of the end: later they show its consequences."""
        if self._tcp is None:
            self._tcp = read_tcp_info(self.transport)
            self._bytes_unsent = self.transport.get_write_buffer_size()

    def evidence(
        self,
        *,
        layers: Layers | None,
        behind_proxy: bool,
        messages_in: int,
        messages_out: int,
        bytes_out: int,
        misses: int,
        rtt_us: tuple[int, ...],
    ) -> Evidence:
        """Everything that is known of the end; call it once the socket is gone."""
        framing = self._framing
        received = framing.close_rcvd if framing is not None else None
        sent = framing.close_sent if framing is not None else None
        number = getattr(self._exception, "errno", None)
        return Evidence(
            close_received=int(received.code) if received is not None else None,
            close_sent=int(sent.code) if sent is not None and self.close_sent else None,
            first_actor=self._first_actor,
            eof=self._eof,
            error=_error_name(self._exception, number),
            frame_error=self._frame_error,
            tcp=self._tcp,
            layers=layers,
            behind_proxy=behind_proxy,
            messages_in=messages_in,
            messages_out=messages_out,
            bytes_in=self.bytes_in,
            bytes_out=bytes_out,
            bytes_unsent=self._bytes_unsent,
            last_frame_age_ms=int((self._loop.time() - self._last_byte) * 1000),
            misses=misses,
            rtt_us=list(rtt_us),
        )

    @property
    def close_detail(self) -> str | None:
        """The text of the peer's close frame, or what was wrong with its frames."""
        received = self._framing.close_rcvd if self._framing is not None else None
        if self._frame_error is not None:
            return self._frame_error
        if self.detail is not None:
            return self.detail
        if received is not None and received.code != NO_STATUS and received.reason:
            return "".join(char for char in received.reason if char.isprintable())
        return None


def _error_name(exception: Exception | None, number: int | None) -> str | None:
    if exception is None:
        return None
    if number is not None:
        return errno.errorcode.get(number, f"errno {number}")
    if isinstance(exception, ConnectionResetError):
        return "ECONNRESET"
    if isinstance(exception, asyncio.TimeoutError):
        return "ETIMEDOUT"
    return type(exception).__name__
