"""The gateway's server: uvicorn with our protocol class, and an end in order.

On SIGTERM it stops listening, closes the sockets with 1012 over a few seconds, and only then lets uvicorn finish: the
sockets' ends are on record before the journal is closed by the app's lifespan.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable

import uvicorn
from starlette.types import ASGIApp

from pulsetrail.bounded_http import BoundedHttp
from pulsetrail_service.protocol import WebSocket

BACKLOG = 4096
"""Connections that the kernel accepts for us while the loop is busy: a storm after a restart arrives at once."""


class GatewayServer(uvicorn.Server):
    """``drain`` is awaited after the listening sockets are closed and before the connections are."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain = drain

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._drain()
        await super().shutdown(sockets)


def gateway_server(app: ASGIApp, drain: Callable[[], Awaitable[None]], *, max_message_bytes: int) -> GatewayServer:
    """A server for the app of ``create_app``; ``await server.serve(sockets=[...])`` runs it."""
    config = uvicorn.Config(
        app,
        ws=WebSocket,
        loop="uvloop",
        http=BoundedHttp,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        backlog=BACKLOG,
        ws_max_size=max_message_bytes,
        ws_ping_interval=None,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=10,
    )
    return GatewayServer(config, drain)
