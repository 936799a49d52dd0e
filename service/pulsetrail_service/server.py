"""The gateway's server: uvicorn with our protocol classes, and an end in order.

On SIGTERM it stops listening, closes the sockets with 1012 over a few seconds, and only then lets uvicorn finish: the
sockets' ends are on record before the journal is closed by the app's lifespan.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from pulsetrail_service.app import Gateway
from pulsetrail_service.gateway_http import GatewayHttp

BACKLOG = 4096
"""Connections that the kernel accepts for us while the loop is busy: a storm after a restart arrives at once."""


class GatewayServer(uvicorn.Server):
    """``drain`` is awaited after the listening sockets are closed and before the connections are."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], Awaitable[None]]) -> None:
        self._told = asyncio.Event()
        super().__init__(config)
        self._drain = drain

    @property
    def should_exit(self) -> bool:
        """Whether the server was told to stop; a signal or a caller sets it."""
        return self._told.is_set()

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if value:
            self._told.set()

    async def main_loop(self) -> None:
        """Wait until told to stop. uvicorn looks ten times a second, which is a quarter of what an idle gateway
        costs."""
        await self.on_tick(0)
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._drain()
        await super().shutdown(sockets)


def gateway_server(app: ASGIApp, gateway: Gateway) -> GatewayServer:
    """A server for a gateway and its app (``create_app``); ``await server.serve(sockets=[...])`` runs it."""
    config = uvicorn.Config(
        app,
        ws="none",
        loop="uvloop",
        http=cast("type[asyncio.Protocol]", partial(GatewayHttp, gateway.endpoint)),
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        backlog=BACKLOG,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=10,
    )
    return GatewayServer(config, gateway.drain)
