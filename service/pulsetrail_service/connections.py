"""One open connection: the shell between a socket and its lifecycle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

import msgspec

from pulsetrail.close_codes import Reason
from pulsetrail.lifecycle import Draft, Lifecycle
from pulsetrail_service.frames import message_frame, ping_frame, text_frame

if TYPE_CHECKING:
    from pulsetrail_service.hub import Hub
    from pulsetrail_service.protocol import WebSocket

_PING: Final = ping_frame(b"pulsetrail")
_BARE_PONG: Final = b'{"type":"pong"}'
_MAX_CLOCK_OFFSET_MS: Final = 10 * 365 * 86_400_000

NOT_JSON: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a decoder raises for a text that is no message; the last for one that is nested too deeply."""

MESSAGES_PER_SECOND: Final = 100
"""Messages of one client in one second above which it is closed as ``rate_limited``; a page sends one a heartbeat."""


class Inbound(msgspec.Struct):
    """Any message of a client; fields that a type does not have are ignored."""

    type: str
    seq: int | None = None
    received: float | None = None
    sent: float | None = None
    id: msgspec.Raw = msgspec.Raw(b"null")
    token: str | None = None


_decode = msgspec.json.Decoder(Inbound).decode


class Connection:
    """A client's connection, from the accept to the loss of its socket. It is the socket's ``Listener``."""

    __slots__ = (
        "_second",
        "_second_messages",
        "behind_proxy",
        "broadcasts_before",
        "bytes_before",
        "bytes_out",
        "client_ref",
        "connection_id",
        "hub",
        "lifecycle",
        "messages_in",
        "messages_out",
        "node_epoch",
        "page_id",
        "prefix",
        "seq",
        "shard",
        "slot",
        "socket",
        "subject",
        "watches",
    )

    def __init__(
        self,
        hub: Hub,
        socket: WebSocket,
        lifecycle: Lifecycle,
        *,
        connection_id: UUID,
        client_ref: UUID,
        shard: int,
        page_id: str | None,
        prefix: str,
        behind_proxy: bool,
        subject: str | None,
        node_epoch: int,
        watches: bool,
    ) -> None:
        self.hub = hub
        self.socket = socket
        self.lifecycle = lifecycle
        self.connection_id = connection_id
        self.client_ref = client_ref
        self.shard = shard
        self.page_id = page_id
        self.prefix = prefix
        self.behind_proxy = behind_proxy
        self.subject = subject
        self.node_epoch = node_epoch
        self.watches = watches
        self.seq = 0
        """Number of the last event of this connection."""
        self.slot = -1
        """Place on the heartbeat wheel."""
        self.messages_in = self.messages_out = self.bytes_out = 0
        self.broadcasts_before = self.bytes_before = 0
        self._second = self._second_messages = 0

    # --- Listener ---

    def text(self, data: bytes) -> None:
        hub = self.hub
        now = hub.clock()
        self.messages_in += 1
        if int(now) != self._second:
            self._second, self._second_messages = int(now), 0
        self._second_messages += 1
        if self._second_messages > MESSAGES_PER_SECOND:
            self.end(Reason.RATE_LIMITED, f"more than {MESSAGES_PER_SECOND} messages in a second")
        elif data == _BARE_PONG:
            self._pong(None, now)
        else:
            self._message(data, now)

    def _message(self, data: bytes, now: float) -> None:
        try:
            message = _decode(data)
        except NOT_JSON as error:
            self._refuse(data, error)
            return
        if message.type == "pong":
            self._pong(message, now)
            return
        self.record(self.lifecycle.answered(now, self.hub.wall(), None, None) if self.lifecycle.misses else [])
        self.lifecycle.heard(now)
        if message.type == "probe":
            self.send(b'{"type":"probe_ok","id":' + _echo(message.id) + b"}")
        elif message.type == "token" and message.token is not None:
            self.hub.renew_token(self, message.token)
        else:
            self.hub.messages_ignored += 1

    def _refuse(self, data: bytes, error: Exception) -> None:
        """Not a message of the protocol. A field of the wrong type is ignored, what is no JSON object ends it."""
        try:
            known = isinstance(msgspec.json.decode(data), dict)
        except NOT_JSON:
            known = False
        if known:
            self.hub.messages_ignored += 1
        else:
            self.end(Reason.PROTOCOL_ERROR, f"not a JSON object: {error}", code=1007)

    def _pong(self, message: Inbound | None, now: float) -> None:
        rtt_us = offset_ms = None
        at = self.hub.wall()
        if message is not None and message.seq is not None:
            sent_at = self.hub.wheel.sent_at(message.seq)
            if sent_at is not None:
                rtt_us = int((now - sent_at) * 1e6)
                if message.received is not None and message.sent is not None:
                    offset_ms = _clock_offset_ms(at / 1000 - rtt_us / 1000, at / 1000, message.received, message.sent)
        drafts = self.lifecycle.answered(now, at, rtt_us, offset_ms)
        if drafts:
            self.record(drafts)

    def binary(self) -> None:
        self.end(Reason.PROTOCOL_ERROR, "binary messages are not part of the protocol", code=1003)

    def pong(self) -> None:
        self.lifecycle.browser_ponged(self.hub.clock())

    def cannot_keep_up(self) -> None:
        self.end(Reason.SLOW_CONSUMER, "the client does not read fast enough")

    def lost(self) -> None:
        self.hub.lost(self)

    # --- what the hub does with it ---

    def send(self, payload: bytes) -> None:
        """Send one message to this client alone."""
        self.write(text_frame(payload))

    def write(self, frame: bytes) -> None:
        """Send a prepared frame to this client alone."""
        if self.socket.is_gone:
            return
        self.messages_out += 1
        self.bytes_out += len(frame)
        self.socket.write(frame)

    def ping(self) -> None:
        """Ask the layer below the page whether it is there."""
        if not self.socket.is_gone:
            self.socket.write(_PING)

    def end(
        self, reason: Reason, detail: str | None = None, *, code: int | None = None, retry_after_ms: int | None = None
    ) -> None:
        """Close it for a reason of the server's; the end is recorded when the socket is gone."""
        if retry_after_ms is not None:
            self.write(message_frame({"type": "go_away", "reason": reason, "retry_after_ms": retry_after_ms}))
        self.hub.end(self, reason, detail, code)

    def record(self, drafts: list[Draft]) -> None:
        """Put events of this connection on record."""
        for draft in drafts:
            self.hub.recorder.of_connection(self, draft)

    def next_seq(self) -> int:
        """The number of this connection's next event."""
        self.seq += 1
        return self.seq


def _echo(raw: msgspec.Raw) -> bytes:
    """The id of a probe as it came, if it is a short scalar."""
    data = bytes(raw)
    return data if len(data) <= 128 and data[:1] not in (b"{", b"[") else b"null"


def _clock_offset_ms(sent: float, received_back: float, received: float, replied: float) -> int | None:
    """Server minus client in milliseconds (RFC 5905, section 8, with the server as the asking side)."""
    offset = ((sent - received) + (received_back - replied)) / 2
    return int(offset) if abs(offset) < _MAX_CLOCK_OFFSET_MS else None
