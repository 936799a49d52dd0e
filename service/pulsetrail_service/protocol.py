"""The WebSocket protocol class: uvicorn's, with eyes.

Stock uvicorn reports a FIN, a RST, a close without code and its own ping timeout all as 1005. This subclass keeps what
it sees of an end as ``Evidence``. The endpoint *adopts* an accepted socket: from then on frames go straight to a
``Listener``, without a task, a queue or an ASGI message for each, and the endpoint's own task is over.

HTTP on the same port and WebSockets that nobody adopts behave as in uvicorn.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import Any, Protocol, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import Frame, Opcode

from pulsetrail.close_codes import Reason
from pulsetrail.events import Evidence, Layers, TcpInfo
from pulsetrail.evidence import NO_STATUS
from pulsetrail_service.tcp_info import read_tcp_info, tune

logger = logging.getLogger("pulsetrail.gateway")

EXTENSION = "pulsetrail.socket"
"""Key in the ASGI scope's extensions under which the endpoint finds its socket."""


class Listener(Protocol):
    """Who hears of an adopted socket. Calls come from the event loop, in order, and do not await."""

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


class WebSocket(WebSocketsSansIOProtocol):
    """One server-side WebSocket; see the module."""

    listener: Listener | None = None
    decision: Reason | None = None
    """Why the server ended it, if it was the server."""
    detail: str | None = None
    _eof = False
    _exception: Exception | None = None
    _first_actor = "nobody"
    _frame_error: str | None = None
    _tcp: TcpInfo | None = None
    _bytes_unsent = 0
    _last_byte = 0.0
    bytes_in = 0

    # --- adoption ---

    async def run_asgi(self) -> None:
        cast("dict[str, Any]", self.scope["extensions"])[EXTENSION] = self
        try:
            await self.app(self.scope, self.receive, self.send)
        except Exception:
            self.logger.exception("Exception in ASGI application\n")
            self.send_500_response()
        if self.listener is not None:
            # What the handshake needed is not needed for the hours that follow.
            del self.scope, self.request, self.response
            self.default_headers = []
        elif self.close_timer is None:
            self.transport.close()

    def adopt(self, listener: Listener, *, write_buffer: int, user_timeout: float) -> None:
        """Send everything from now on to ``listener``; call it right after the accept.

        ``write_buffer`` is the number of unsent bytes at which the listener is told that the client cannot keep up,
        ``user_timeout`` the seconds of ``TCP_USER_TIMEOUT``.
        """
        self.listener = listener
        self._last_byte = self.loop.time()
        if self.is_gone:
            # It went while it was being accepted, and nobody was listening yet. Its transport is of no more use.
            self.loop.call_soon(listener.lost)
            return
        self.transport.set_write_buffer_limits(high=write_buffer)
        tune(self.transport, user_timeout)
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()
        while not self.queue.empty():
            message = cast("dict[str, Any]", self.queue.get_nowait())
            if message.get("text") is not None:
                listener.text(message["text"].encode())

    @property
    def is_gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.disconnected or self.transport.is_closing()

    # --- events of the transport ---

    def data_received(self, data: bytes) -> None:
        if self.listener is None:
            super().data_received(data)
            self._answer_unreadable_handshake()
            return
        self._last_byte = self.loop.time()
        self.bytes_in += len(data)
        self.conn.receive_data(data)
        try:
            for frame in self.conn.events_received():
                self._frame_received(cast("Frame", frame))
        except Exception:
            logger.exception("a message could not be handled")
            self.end(Reason.INTERNAL_ERROR, 1011, "a message could not be handled")
            return
        if self.conn.parser_exc is not None:
            self._give_up_on_frames(self.conn.parser_exc)
        else:
            self._flush()

    def _answer_unreadable_handshake(self) -> None:
        """uvicorn leaves a handshake that websockets cannot read (a header line above 8 KiB, too many of them) without
        an answer, and its page connecting for ever."""
        error = self.conn.handshake_exc
        if self.handshake_initiated or error is None or self.transport.is_closing():
            return
        body = b"The handshake cannot be read: " + str(error).encode("ascii", "replace")[:200] + b"\n"
        head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain\r\nConnection: close\r\n"
        self.transport.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.transport.close()

    def _frame_received(self, frame: Frame) -> None:
        assert self.listener is not None  # noqa: S101 - only called for adopted sockets
        if frame.opcode is Opcode.PONG:
            self.listener.pong()
        elif frame.opcode is Opcode.CLOSE:
            if self._first_actor == "nobody":
                self._first_actor = "peer"
            self._snapshot()
            self._flush()
            self.close_sent = True
            self.transport.close()
        elif frame.opcode is Opcode.PING or self.close_sent:
            return  # websockets has queued the pong; after our close frame nothing else counts
        elif frame.opcode is Opcode.TEXT and frame.fin:
            self._message(Opcode.TEXT, bytes(frame.data))
        else:
            self._fragment(frame)

    def _fragment(self, frame: Frame) -> None:
        if frame.opcode is not Opcode.CONT:
            self.curr_msg_data_type = "text" if frame.opcode is Opcode.TEXT else "bytes"
            self.frames = []
        self.frames.append(bytes(frame.data))
        if frame.fin:
            data, self.frames = b"".join(self.frames), []
            self._message(Opcode.TEXT if self.curr_msg_data_type == "text" else Opcode.BINARY, data)

    def _message(self, opcode: Opcode, data: bytes) -> None:
        assert self.listener is not None  # noqa: S101 - only called for adopted sockets
        if opcode is Opcode.BINARY:
            self.listener.binary()
            return
        self.listener.text(data)

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
        listener = self.listener
        super().connection_lost(exc)
        if listener is not None:
            listener.lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.listener is not None:
            self.listener.cannot_keep_up()

    def shutdown(self) -> None:
        if self.listener is None:
            super().shutdown()
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
        self.conn.send_close(code, reason)
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
        output = self.conn.data_to_send()
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
        received, sent = self.conn.close_rcvd, self.conn.close_sent
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
            last_frame_age_ms=int((self.loop.time() - self._last_byte) * 1000),
            misses=misses,
            rtt_us=list(rtt_us),
        )

    @property
    def close_detail(self) -> str | None:
        """The text of the peer's close frame, or what was wrong with its frames."""
        received = self.conn.close_rcvd
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
