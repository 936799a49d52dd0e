"""``/metrics`` and ``/metrics/targets``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import APIRouter, Request, Response

from pulsetrail.metrics_snapshot import SnapshotReader
from pulsetrail_service.frames import encode_json
from pulsetrail_service.routes import may, problem

Targets = Callable[[], Awaitable[list[str]]]
"""Addresses (host:port) of the processes that answer ``/metrics`` for themselves."""


def metrics_routes(reader: SnapshotReader, read_token: str | None, targets: Targets) -> APIRouter:
    """``/metrics`` answers for every process here; ``targets`` lists those that answer for themselves (http_sd)."""
    router = APIRouter(tags=["metrics"])

    @router.get("/metrics")
    async def metrics(request: Request) -> Response:
        """The figures of every process here, and the domain's figures once."""
        if not may(request, read_token):
            return problem(401, "unauthorized", "Send PULSETRAIL_READ_TOKEN as a bearer token.")
        # In a thread: rendering ten thousand samples must not hold up a heartbeat.
        body, content_type = await asyncio.to_thread(reader.render, request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    @router.get("/metrics/targets")
    async def metrics_targets(request: Request) -> Response:
        """The processes of the fleet in Prometheus's http_sd format."""
        if not may(request, read_token):
            return problem(401, "unauthorized", "Send PULSETRAIL_READ_TOKEN as a bearer token.")
        body = [{"targets": await targets(), "labels": {"job": "pulsetrail"}}]
        return Response(encode_json(body), media_type="application/json")

    return router
