"""The gateway's side of HTTP: handshakes of ``/ws/updates`` become WebSockets here, everything else is the app's.

uvicorn parses the head of a handshake, writes it out again for its WebSocket protocol, which parses it once more, and
runs the app in a task. A storm of reconnecting clients pays for that thousands of times in a second, so the head that
is parsed already goes to the endpoint as it is, in a plain call.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from pulsetrail.bounded_http import BoundedHttp
from pulsetrail_service.protocol import WebSocket
from pulsetrail_service.upgrade import Upgrade

if TYPE_CHECKING:
    from pulsetrail_service.endpoint import UpdatesEndpoint

UPDATES_PATH = "/ws/updates"
_PATH = UPDATES_PATH.encode()


class GatewayHttp(BoundedHttp):
    """One accepted TCP connection, until its request is understood."""

    def __init__(
        self,
        endpoint: UpdatesEndpoint,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._endpoint = endpoint

    def _should_upgrade(self) -> bool:
        return self.url.partition(b"?")[0] == _PATH and self._get_upgrade() == b"websocket"

    def _unsupported_upgrade_warning(self) -> None:
        """Not worth a line in the log that anybody could cause: the app answers as to any other request."""

    def handle_websocket_upgrade(self) -> None:
        self._expect_nothing()
        self.connections.discard(self)
        socket = WebSocket(self.transport, self.loop, self.connections, self._endpoint.max_message_bytes)
        self.transport.set_protocol(socket)
        upgrade = Upgrade(
            client=self.client,
            tls=self.scheme == "https",
            method=self.parser.get_method(),
            http_version=self.parser.get_http_version(),
            query=httptools.parse_url(self.url).query or b"",
            headers=self.headers,
        )
        self.parser = None  # type: ignore[assignment]  # as uvicorn's own connection_lost does, to break the cycle
        self._endpoint.upgrade(socket, upgrade)
