"""The collector's composition root: settings in, routes or an app of its own out."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import uvicorn
from fastapi import FastAPI, Request, Response

from pulsetrail import __version__
from pulsetrail.addresses import networks
from pulsetrail.bounded_http import BoundedHttp
from pulsetrail.errands import complain
from pulsetrail.journal import Journal
from pulsetrail.log import Deployment, Log
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.metrics_snapshot import SnapshotReader, SnapshotWriter, sample_loop
from pulsetrail.origins import Origins
from pulsetrail.rates import RateLimiter
from pulsetrail.settings import Settings, is_loopback
from pulsetrail.shipper import Shipper
from pulsetrail_collector.dead_letters import DeadLetters, Sink
from pulsetrail_collector.routes import Collector, router

DRAIN_SECONDS: Final = 5.0
PROCESS: Final = "collector"
"""Name of the process in the metrics and of its journal's file."""

logger = logging.getLogger("pulsetrail.collector")


def build_collector(
    settings: Settings, *, journal: Journal, deployment: Deployment, metrics: PipelineMetrics, dead_letters: DeadLetters
) -> Collector:
    """The collector as the settings want it; ``router(collector)`` mounts it in the gateway's app.

    The app must have no CORS middleware of its own: this one answers preflights.
    """
    return Collector(
        journal,
        deployment,
        metrics,
        dead_letters,
        rates=RateLimiter(settings.telemetry_rate, settings.telemetry_rate_per_address),
        origins=Origins(settings.allowed_origins),
        trusted_proxies=networks(settings.trusted_proxies),
        write_key=settings.write_key.get_secret_value() if settings.write_key else None,
        max_bytes=settings.telemetry_max_bytes,
        accept_reports=settings.accept_reports,
    )


def create_app(
    settings: Settings,
    *,
    journal: Journal,
    log: Log,
    deployment: Deployment,
    metrics: PipelineMetrics,
    snapshots: Path,
    sink: Sink,
) -> FastAPI:
    """The collector in a process of its own. Its lifespan runs the shipper, and closes ``journal`` and ``log``.

    Args:
        snapshots: directory of the processes' metrics.
        sink: writes dead letters to the database.
    """
    dead_letters = DeadLetters(metrics)
    shipper = Shipper(journal, log, observer=metrics)
    writer = SnapshotWriter(snapshots, PROCESS, metrics.registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runs = (shipper.run(), dead_letters.run(sink), writer.run(), sample_loop(metrics))
        tasks = [asyncio.create_task(run) for run in runs]
        for task in tasks:
            task.add_done_callback(partial(complain, logger, "collector"))
        try:
            yield
        finally:
            await shipper.drain(DRAIN_SECONDS)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await journal.close()
            await log.close()

    app = FastAPI(
        title="Pulsetrail collector",
        version=__version__,
        summary="Takes browsers' own account of their connections.",
        lifespan=lifespan,
        redoc_url=None,
    )
    collector = build_collector(
        settings, journal=journal, deployment=deployment, metrics=metrics, dead_letters=dead_letters
    )
    app.include_router(router(collector))

    @app.get("/healthz", tags=["health"])
    async def healthz() -> Response:
        """The process answers."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    @app.get("/readyz", tags=["health"])
    async def readyz() -> Response:
        """What is not ready; the database being away alone does not keep the collector from taking batches."""
        waiting = {} if journal.accepts_telemetry else {"journal": str(journal.failing or f"{journal.fill:.0%} full")}
        if shipper.state.error is not None:
            waiting["log"] = f"{shipper.state.error} {shipper.state.behind} events wait in the journal."
        body = msgspec.json.encode({"status": "waiting" if waiting else "ok", "waiting": waiting})
        return Response(body, 503 if "journal" in waiting else 200, media_type="application/json")

    read_token = settings.read_token.get_secret_value() if settings.read_token else None
    reader = SnapshotReader(snapshots)

    @app.get("/metrics", tags=["metrics"])
    async def figures(request: Request) -> Response:
        """The figures of every process of this data directory."""
        if not _may_read(request, read_token):
            return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
        body, content_type = await asyncio.to_thread(reader.render, request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return app


def _may_read(request: Request, token: str | None) -> bool:
    """Whether a request carries ``token``; without one set, whether it comes from this machine and through no proxy."""
    if token is None:
        forwarded = "x-forwarded-for" in request.headers or "forwarded" in request.headers
        return request.client is not None and is_loopback(request.client.host) and not forwarded
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode())


def collector_server(app: FastAPI) -> uvicorn.Server:
    """A server for the app of ``create_app``; ``await server.serve(sockets=[...])`` runs it."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedHttp,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # uvicorn would believe any X-Forwarded-For that comes from loopback
        server_header=False,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)
