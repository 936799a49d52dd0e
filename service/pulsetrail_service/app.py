"""The gateway's composition root: settings in, a FastAPI app out.

``Gateway`` holds the parts of one process, wired; ``create_app`` puts them behind routes. The app's lifespan starts and
stops them: what was open before a crash is ended first, the journal is closed last.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from fastapi import APIRouter, FastAPI, Response

from pulsetrail import __version__, user_agents
from pulsetrail.addresses import networks
from pulsetrail.errands import complain
from pulsetrail.journal import Journal
from pulsetrail.lifecycle import Limits
from pulsetrail.log import Deployment, Log
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.metrics_snapshot import SnapshotReader, SnapshotWriter, sample_loop
from pulsetrail.origins import Origins
from pulsetrail.rates import RateLimiter
from pulsetrail.settings import Settings
from pulsetrail.shipper import Shipper
from pulsetrail_service.auth import Authenticator, Forbidden, Unauthorized
from pulsetrail_service.breaker import Breaker, BreakerState
from pulsetrail_service.endpoint import UpdatesEndpoint
from pulsetrail_service.gateway_http import UPDATES_PATH
from pulsetrail_service.handshake import Admission, ceiling_of
from pulsetrail_service.hub import Hub
from pulsetrail_service.live_figures import LiveFigures, RecentFigures
from pulsetrail_service.metrics_routes import Targets, metrics_routes
from pulsetrail_service.node import Lease
from pulsetrail_service.recorder import Recorder
from pulsetrail_service.rejections import Rejections
from pulsetrail_service.routes import Publishing, figure_routes, health_routes, update_routes
from pulsetrail_service.updates import Broadcaster, UpdateSource

PROBE_WAIT = 2.0
"""Seconds after a missed heartbeat at which the three layers are looked at; at most half an interval."""

DRAIN_FLUSH = 5.0
"""Seconds that the shipper gets to empty the journal at the end; what is left waits for the next start."""

logger = logging.getLogger("pulsetrail.gateway")


class Gateway:
    """One gateway process: everything behind ``/ws/updates``, wired and not yet running."""

    def __init__(
        self,
        settings: Settings,
        *,
        node_id: str,
        worker: int,
        deployment: Deployment,
        journal: Journal,
        log: Log,
        leases: Log,
        source: UpdateSource,
        metrics: PipelineMetrics,
        snapshots: Path,
        ticket_key: str,
    ) -> None:
        """
        Args:
            settings: everything that can be adjusted.
            node_id: name of this process in the fleet; survives restarts.
            worker: its number among the gateway processes of this host.
            deployment: shards and key of the log.
            journal: this process's own; closed by ``stop``, as are the two logs.
            log: where the journal is shipped to.
            leases: a way to the same log that nothing else uses.
            source: where updates get their place.
            metrics: receives the pipeline's figures.
            snapshots: directory of the processes' metrics.
            ticket_key: signs tickets, the same for all workers.
        """
        loop = asyncio.get_running_loop()
        self.settings = settings
        self.worker = worker
        self.journal = journal
        self.log = log
        self.metrics = metrics
        self.recorder = Recorder(journal, node_id=node_id, shards=deployment.shards)
        self.authenticator = _authenticator(settings, ticket_key)
        self.hub = Hub(
            self.recorder,
            limits=Limits(
                settings.heartbeat_miss_limit,
                settings.idle_timeout,
                min(PROBE_WAIT, settings.heartbeat_interval / 2),
            ),
            heartbeat_interval=settings.heartbeat_interval,
            reconnect_spread=settings.reconnect_spread,
            clock=loop.time,
            verify_token=self._verify_token,
        )
        self.broadcaster = Broadcaster(
            self.hub,
            source,
            ring=settings.updates_ring,
            breaker=Breaker(settings.breaker_failures, settings.breaker_seconds),
            metrics=metrics,
        )
        self.rejections = Rejections(self.recorder, loop.time)
        self.hub.on_tick(self.rejections.tick)
        self.shipper = Shipper(journal, log, observer=metrics)
        self.lease = Lease(leases, self.hub, seconds=settings.node_lease, node_started=self._node_started)
        self.reader = SnapshotReader(snapshots)
        self.recent_figures = RecentFigures()
        self.writer = SnapshotWriter(snapshots, f"gateway-{worker}", metrics.registry)
        self.endpoint = UpdatesEndpoint(
            self.hub,
            self.broadcaster,
            _admission(settings, self.authenticator),
            self.rejections,
            client_key=deployment.client_key,
            trusted_proxies=networks(settings.trusted_proxies),
            heartbeat_ms=int(settings.heartbeat_interval * 1000),
            auth_mode=settings.auth_mode,
            write_buffer=settings.send_buffer_bytes,
            user_timeout=settings.tcp_user_timeout,
            max_message_bytes=settings.max_message_bytes,
        )
        self._leases = leases
        self._source = source
        self._tasks: list[asyncio.Task[None]] = []
        self._drained = 0

    async def start(self) -> None:
        """End what a crash left open, say that this node began, and run."""
        user_agents.load()
        ended = await self.journal.recover()
        if ended:
            logger.warning("%d connections were open when this node last ended; they are recorded as lost", ended)
        self._node_started(None)
        runs = [
            self.shipper.run(),
            self.lease.run(),
            self.broadcaster.run(),
            self.writer.run(),
            sample_loop(self.metrics),
        ]
        if self.settings.live_figures_interval:
            figures = LiveFigures(
                self.broadcaster,
                self.reader,
                self.hub.watchers,
                self.metrics,
                self.recent_figures,
                publishes=self.worker == 0,
                alone=self.settings.workers == 1,
            )
            runs.append(figures.run(self.settings.live_figures_interval))
        self._tasks = [asyncio.create_task(run) for run in runs]
        for task in self._tasks:
            task.add_done_callback(partial(complain, logger, "gateway"))
        self.hub.wheel.start()

    async def drain(self) -> None:
        """Close every connection in order; called when nothing new is accepted any more."""
        self._drained = await self.hub.drain(self.settings.drain_seconds)

    async def stop(self) -> None:
        """Say that this node ended, send what can be sent in a bounded time, and close."""
        self.hub.wheel.stop()
        self.recorder.node_stopped(self._drained)
        shipped = await self.shipper.drain(DRAIN_FLUSH)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if shipped:
            await self.lease.release()
        await self._source.close()
        await self.journal.close()
        await self._leases.close()
        await self.log.close()

    def readiness(self) -> dict[str, str]:
        """What is not ready, by part; ``log`` and ``broadcast`` do not keep it from taking connections."""
        waiting = {}
        if self.hub.draining:
            waiting["gateway"] = "it is shutting down"
        if not self.journal.accepts_handshakes:
            waiting["journal"] = str(self.journal.failing or f"it is {self.journal.fill:.0%} full")
        shipping = self.shipper.state
        if shipping.error is not None:
            waiting["log"] = f"{shipping.error} {shipping.behind} events wait in the journal."
        if self.broadcaster.breaker.state is not BreakerState.CLOSED:
            waiting["broadcast"] = "it is suspended after repeated failures"
        return waiting

    def _node_started(self, previous_epoch: int | None) -> None:
        self.recorder.node_started(self.worker, self.settings.heartbeat_interval, previous_epoch)

    def _verify_token(self, token: str) -> float | None:
        try:
            return self.authenticator.bearer(token).expires
        except (Unauthorized, Forbidden) as error:
            raise PermissionError(str(error)) from None


def create_app(gateway: Gateway, *, targets: Targets, routers: Sequence[APIRouter] = ()) -> FastAPI:
    """The gateway's app; ``routers`` are what else is served on its port, such as the collector's."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await gateway.start()
        try:
            yield
        finally:
            await gateway.stop()

    settings = gateway.settings
    app = FastAPI(
        title="Pulsetrail",
        version=__version__,
        summary="A flight recorder for WebSocket connections.",
        lifespan=lifespan,
        redoc_url=None,
    )

    @app.get(UPDATES_PATH, include_in_schema=False)
    async def upgrade_required() -> Response:
        body = "This is a WebSocket endpoint; connect to it with one (RFC 6455).\n"
        return Response(body, 426, {"Upgrade": "websocket", "Connection": "upgrade"}, "text/plain")

    publish_token = settings.publish_token.get_secret_value() if settings.publish_token else None
    read_token = settings.read_token.get_secret_value() if settings.read_token else None
    publishing = Publishing(publish_token, settings.max_message_bytes)
    origins = Origins(settings.allowed_origins)
    app.include_router(
        update_routes(gateway.broadcaster, gateway.authenticator, publishing, origins, gateway.hub.watchers)
    )
    app.include_router(figure_routes(gateway.recent_figures, gateway.authenticator))
    app.include_router(health_routes(gateway.readiness))
    app.include_router(metrics_routes(gateway.reader, read_token, targets))
    for router in routers:
        app.include_router(router)
    return app


def _authenticator(settings: Settings, ticket_key: str) -> Authenticator:
    return Authenticator(
        settings.auth_mode,
        key=settings.jwt_key.get_secret_value() if settings.jwt_key else None,
        algorithm=settings.jwt_algorithm,
        audience=settings.jwt_audience,
        ticket_key=ticket_key,
        ticket_seconds=settings.ticket_seconds,
    )


def _admission(settings: Settings, authenticator: Authenticator) -> Admission:
    rate, per_address = settings.handshake_rate, settings.handshake_rate_per_address
    return Admission(
        authenticator,
        RateLimiter(rate, per_address),
        ceiling=RateLimiter(ceiling_of(rate), ceiling_of(per_address)),
        origins=Origins(settings.allowed_origins),
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_address,
    )
