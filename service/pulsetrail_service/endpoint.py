"""``/ws/updates``: from the upgrade request to an open connection, without a task of its own.

The order matters. The ``connection.opened`` event is durable in the journal before the client sees the 101; from then
on the connection is in the hub, whose ``lost`` puts exactly one end on record, also when the client was gone before
it was accepted.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from pulsetrail.addresses import Networks
from pulsetrail.close_codes import Reason
from pulsetrail.errors import JournalError
from pulsetrail.events import ConnectionOpened
from pulsetrail.identity import ClientIdentity, client_ref, new_id, shard_of
from pulsetrail.lifecycle import Draft, Lifecycle
from pulsetrail.user_agents import describe
from pulsetrail_service.auth import Identity
from pulsetrail_service.connections import Connection
from pulsetrail_service.frames import encode_json, message_frame, text_frame
from pulsetrail_service.handshake import SUBPROTOCOL, Admission, Refusal, Request, read_request
from pulsetrail_service.hub import Hub
from pulsetrail_service.protocol import WebSocket
from pulsetrail_service.rejections import Rejections, printable
from pulsetrail_service.updates import Broadcaster, Replay
from pulsetrail_service.upgrade import BadUpgrade, Upgrade, accept_key, plain_response, switching_protocols

logger = logging.getLogger("pulsetrail.gateway")


class Handshake(NamedTuple):
    """A handshake that is being answered."""

    socket: WebSocket
    request: Request
    switching: bytes
    """The 101 response."""


class UpdatesEndpoint:
    """What answers the handshakes of ``/ws/updates``."""

    def __init__(
        self,
        hub: Hub,
        broadcaster: Broadcaster,
        admission: Admission,
        rejections: Rejections,
        *,
        client_key: bytes,
        trusted_proxies: Networks,
        heartbeat_ms: int,
        auth_mode: str,
        write_buffer: int,
        user_timeout: float,
        max_message_bytes: int,
    ) -> None:
        self._hub = hub
        self._broadcaster = broadcaster
        self._admission = admission
        self._rejections = rejections
        self._recorder = hub.recorder
        self._client_key = client_key
        self._trusted = trusted_proxies
        self._heartbeat_ms = heartbeat_ms
        self._auth_mode = auth_mode
        self._write_buffer = write_buffer
        self._user_timeout = user_timeout
        self.max_message_bytes = max_message_bytes

    def upgrade(self, socket: WebSocket, upgrade: Upgrade) -> None:
        """Answer a handshake. Never raises: whatever goes wrong here is answered too."""
        try:
            self._answer(socket, upgrade)
        except BadUpgrade as bad:
            text = f"This is a WebSocket endpoint (RFC 6455): {bad}.\n".encode()
            socket.answer(plain_response(bad.status, b"text/plain", text, *bad.headers))
        except Exception:
            logger.exception("a handshake could not be handled")
            socket.answer(plain_response(500, b"text/plain", b"The handshake could not be handled.\n"))

    def _answer(self, socket: WebSocket, upgrade: Upgrade) -> None:
        accept = accept_key(upgrade)
        request = read_request(upgrade, self._trusted)
        chosen = SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None
        handshake = Handshake(socket, request, switching_protocols(accept, chosen))
        journal = self._recorder.journal
        outcome = self._admission.check(request, self._hub, journal_accepts=journal.accepts_handshakes)
        if isinstance(outcome, Refusal):
            self._refuse(outcome, handshake)
        else:
            self._open(handshake, upgrade.tls, outcome)

    def _open(self, handshake: Handshake, tls: bool, identity: Identity) -> None:
        hub, socket, request = self._hub, handshake.socket, handshake.request
        hello = request.hello
        client_id = hello.client or str(new_id())
        ref = client_ref(self._client_key, client_id)
        at = hub.wall()
        connection = Connection(
            hub,
            socket,
            Lifecycle(hub.limits, hub.clock(), at),
            connection_id=new_id(),
            client_ref=ref,
            shard=shard_of(ref, self._recorder.shards),
            page_id=hello.page,
            prefix=request.prefix,
            behind_proxy=request.behind_proxy,
            subject=identity.subject,
            node_epoch=self._recorder.epoch,
            watches=hello.watches,
        )
        # Whether the client can resume is known now; the updates of the meantime come with the replay itself.
        resumable = self._broadcaster.replay(hello.since_epoch, hello.since).resumed
        opened = self._opened(request, tls=tls, resumed=resumable)
        known = ClientIdentity(ref, client_id, identity.subject)
        self._recorder.of_connection(connection, Draft("connection.opened", at, opened), known)

        def committed(error: JournalError | None) -> None:
            if error is None:
                self._accept(handshake, connection, client_id, identity)
            else:
                refusal = Refusal(Reason.OVERLOADED, 101, retry_after_ms=10_000, detail=str(error))
                self._refuse(refusal, handshake)

        self._recorder.journal.when_durable(committed)

    def _accept(self, handshake: Handshake, connection: Connection, client_id: str, identity: Identity) -> None:
        hub, hello = self._hub, handshake.request.hello
        opening = handshake.switching
        try:
            replay = self._broadcaster.replay(hello.since_epoch, hello.since)
            frames = self._welcome(connection, client_id, replay)
            connection.messages_out = 1 + len(replay.updates)
            connection.bytes_out = len(frames)
            opening += frames
        finally:
            # It is on record as opened: whatever happened to the accept, from here on its end will be too.
            hub.join(connection, identity.expires)
            handshake.socket.accept(
                opening, connection, write_buffer=self._write_buffer, user_timeout=self._user_timeout
            )
        hub.greet(connection)

    def _opened(self, request: Request, *, tls: bool, resumed: bool) -> ConnectionOpened:
        agent = describe(request.user_agent)
        hello = request.hello
        return ConnectionOpened(
            address_prefix=request.prefix,
            behind_proxy=request.behind_proxy,
            tls=tls,
            origin=None if request.origin is None else printable(request.origin, 128),
            app=hello.app,
            release=hello.release,
            browser=agent.browser,
            os=agent.os,
            device=agent.device,
            auth=self._auth_mode,
            resumed=resumed,
            previous=hello.previous,
        )

    def _welcome(self, connection: Connection, client_id: str, replay: Replay) -> bytes:
        welcome = encode_json(
            {
                "type": "welcome",
                "connection": str(connection.connection_id),
                "client": client_id,
                "stream_epoch": self._broadcaster.epoch,
                "stream_position": self._broadcaster.ring.head,
                "resumed": replay.resumed,
                "heartbeat_ms": self._heartbeat_ms,
                "miss_limit": self._hub.limits.miss_limit,
                "time": self._hub.wall() // 1000,
            }
        )
        return b"".join((text_frame(welcome), *(text_frame(update.message()) for update in replay.updates)))

    def _refuse(self, refusal: Refusal, handshake: Handshake) -> None:
        client = handshake.request.hello.client
        ref = client_ref(self._client_key, client) if client is not None else None
        self._rejections.record(refusal, handshake.request, ref)
        if refusal.close_code is None:
            handshake.socket.answer(_plain_http(refusal))
            return
        opening = handshake.switching
        if refusal.retry_after_ms is not None:
            hint = {"type": "go_away", "reason": refusal.reason, "retry_after_ms": refusal.retry_after_ms}
            opening += message_frame(hint)
        handshake.socket.refuse(opening, refusal.reason, refusal.close_code)
        self._hub.expect_end(handshake.socket)


def _plain_http(refusal: Refusal) -> bytes:
    problem = {"type": "about:blank", "status": refusal.status, "title": refusal.reason, "detail": refusal.detail}
    body = encode_json(problem)
    if refusal.retry_after_ms is None:
        return plain_response(refusal.status, b"application/problem+json", body)
    retry_after = b"%d" % -(-refusal.retry_after_ms // 1000)
    return plain_response(refusal.status, b"application/problem+json", body, (b"retry-after", retry_after))
