"""``/ws/updates``: from the upgrade request to an open connection, as a raw ASGI endpoint.

The order matters. The ``connection.opened`` event is durable in the journal before the client sees the 101; from then
on the connection is in the hub, whose ``lost`` puts exactly one end on record, also when the client was gone before
it was accepted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected

from pulsetrail.addresses import Networks
from pulsetrail.close_codes import Reason
from pulsetrail.errors import JournalError
from pulsetrail.events import ConnectionOpened
from pulsetrail.identity import ClientIdentity, client_ref, new_id, shard_of
from pulsetrail.lifecycle import Draft, Lifecycle
from pulsetrail.user_agents import describe
from pulsetrail_service.auth import Identity
from pulsetrail_service.connections import Connection
from pulsetrail_service.frames import encode_json, text_frame
from pulsetrail_service.handshake import SUBPROTOCOL, Admission, Refusal, Request, read_request
from pulsetrail_service.hub import Hub
from pulsetrail_service.protocol import EXTENSION, WebSocket
from pulsetrail_service.rejections import Rejections, printable
from pulsetrail_service.updates import Broadcaster, Replay

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class UpdatesEndpoint:
    """The ASGI application of ``/ws/updates``."""

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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        request = read_request(
            scope["client"], scope["headers"], scope["subprotocols"], scope["query_string"], self._trusted
        )
        journal = self._recorder.journal
        outcome = self._admission.check(request, self._hub, journal_accepts=journal.accepts_handshakes)
        if isinstance(outcome, Refusal):
            await self._refuse(outcome, request, send)
            return
        await self._accept(scope, request, outcome, send)

    async def _accept(self, scope: Scope, request: Request, identity: Identity, send: Send) -> None:
        hub, hello = self._hub, request.hello
        client_id = hello.client or str(new_id())
        ref = client_ref(self._client_key, client_id)
        at = hub.wall()
        socket: WebSocket = scope["extensions"][EXTENSION]
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
        )
        # Whether the client can resume is known now; the updates of the meantime come with the replay itself.
        resumable = self._broadcaster.replay(hello.since_epoch, hello.since).resumed
        opened = self._opened(scope, request, resumed=resumable)
        known = ClientIdentity(ref, client_id, identity.subject)
        self._recorder.of_connection(connection, Draft("connection.opened", at, opened), known)
        try:
            await self._recorder.journal.durable()
        except JournalError as error:
            refusal = Refusal(Reason.OVERLOADED, 101, retry_after_ms=10_000, detail=str(error))
            await self._refuse(refusal, request, send)
            return
        try:
            subprotocol = SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
        except ClientDisconnected:
            pass  # the hub records the end of a client that did not wait
        finally:
            # It is on record as opened: whatever happened to the accept, from here on its end will be too.
            hub.join(connection, identity.expires)
            socket.adopt(connection, write_buffer=self._write_buffer, user_timeout=self._user_timeout)
        self._welcome(connection, client_id, self._broadcaster.replay(hello.since_epoch, hello.since))
        hub.greet(connection)

    def _opened(self, scope: Scope, request: Request, *, resumed: bool) -> ConnectionOpened:
        agent = describe(request.user_agent)
        hello = request.hello
        return ConnectionOpened(
            address_prefix=request.prefix,
            behind_proxy=request.behind_proxy,
            tls=scope.get("scheme") == "wss",
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

    def _welcome(self, connection: Connection, client_id: str, replay: Replay) -> None:
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
        frames = [text_frame(welcome), *(text_frame(update.message()) for update in replay.updates)]
        connection.write(b"".join(frames))
        connection.messages_out += len(replay.updates)

    async def _refuse(self, refusal: Refusal, request: Request, send: Send) -> None:
        client = request.hello.client
        ref = client_ref(self._client_key, client) if client is not None else None
        self._rejections.record(refusal, request, ref)
        try:
            if refusal.close_code is None:
                await _plain_http(refusal, send)
            else:
                await _accept_and_close(refusal, refusal.close_code, request, send)
        except ClientDisconnected:
            return


async def _accept_and_close(refusal: Refusal, code: int, request: Request, send: Send) -> None:
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in request.subprotocols else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    if refusal.retry_after_ms is not None:
        hint = {"type": "go_away", "reason": refusal.reason, "retry_after_ms": refusal.retry_after_ms}
        await send({"type": "websocket.send", "text": encode_json(hint).decode()})
    await send({"type": "websocket.close", "code": code, "reason": refusal.reason})


async def _plain_http(refusal: Refusal, send: Send) -> None:
    headers = [(b"content-type", b"application/problem+json")]
    if refusal.retry_after_ms is not None:
        headers.append((b"retry-after", str(-(-refusal.retry_after_ms // 1000)).encode()))
    problem = {"type": "about:blank", "status": refusal.status, "title": refusal.reason, "detail": refusal.detail}
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": encode_json(problem)})
