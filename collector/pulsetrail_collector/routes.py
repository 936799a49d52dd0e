"""``POST /v1/telemetry`` and ``POST /v1/reports``.

Order of the checks, cheapest first: origin, write key, declared size, rate, room in the journal; then the body is read
and unpacked up to the cap, and only then decoded. A batch is durable in the journal before its 202. Cookies are never
looked at.
"""

from __future__ import annotations

import hmac
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request, Response

from pulsetrail.addresses import Networks, peer_address
from pulsetrail.errors import JournalError
from pulsetrail.events import now_us
from pulsetrail.identity import address_prefix, shard_of
from pulsetrail.journal import Journal
from pulsetrail.log import Deployment
from pulsetrail.logs import Sampler
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.origins import Origins
from pulsetrail.rates import RateLimiter
from pulsetrail_collector.bodies import TooLarge, Unreadable, read_body, unpack
from pulsetrail_collector.dead_letters import DeadLetters
from pulsetrail_collector.intake import MalformedBatch, Rejected, take_in
from pulsetrail_collector.reports import take_in_reports
from pulsetrail_collector.schemas import batch_schema, inlined_schema

logger = logging.getLogger("pulsetrail.collector")

PROBLEM: Final = "application/problem+json"
KEY_HEADER: Final = "x-pulsetrail-key"
OVERLOADED_RETRY_SECONDS: Final = 10
_TELEMETRY_TYPES: Final = frozenset(("application/json", "text/plain", ""))
_REPORT_TYPES: Final = frozenset(("application/reports+json", "application/json"))

_encode = msgspec.json.Encoder().encode


class Accepted(msgspec.Struct):
    """The reply to a batch. What the log already has counts as accepted: only the append knows."""

    accepted: int
    rejected: list[Rejected] = []


class Refused(Exception):
    """The request gets this answer instead."""

    def __init__(
        self, status: int, title: str, detail: str, *, outcome: str, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.outcome = outcome
        self.retry_after_ms = retry_after_ms

    def response(self) -> Response:
        """Problem details for programs (RFC 9457)."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        headers = {}
        if self.retry_after_ms is not None:
            body["retry_after_ms"] = self.retry_after_ms
            headers["Retry-After"] = str(math.ceil(self.retry_after_ms / 1000))
        return Response(_encode(body), self.status, headers, PROBLEM)


class Collector:
    """What the routes need; one a process."""

    def __init__(
        self,
        journal: Journal,
        deployment: Deployment,
        metrics: PipelineMetrics,
        dead_letters: DeadLetters,
        *,
        rates: RateLimiter,
        origins: Origins,
        trusted_proxies: Networks,
        write_key: str | None,
        max_bytes: int,
        accept_reports: bool = True,
    ) -> None:
        """``write_key`` ``None`` asks for none; ``max_bytes`` caps a body before and after unpacking."""
        self.accept_reports = accept_reports
        self._journal = journal
        self._deployment = deployment
        self._metrics = metrics
        self._dead_letters = dead_letters
        self._rates = rates
        self._origins = origins
        self._trusted = trusted_proxies
        self._write_key = write_key.encode() if write_key else None
        self._max_bytes = max_bytes
        self._log_lines = Sampler(per_second=5)

    async def telemetry(self, request: Request) -> Response:
        """Take a batch."""
        received_at = now_us()
        body = await self._admit(request, _TELEMETRY_TYPES, self._prefix(request))
        try:
            intake = take_in(
                body,
                received_at,
                key=self._deployment.client_key,
                shards=self._deployment.shards,
                from_page="origin" in request.headers,
            )
        except MalformedBatch as fault:
            self._dead_letters.put(received_at, fault.detail, body)
            raise _malformed(fault.detail) from None
        for event in intake.events:
            self._journal.record(event, intake.identity)
        if intake.events:
            await self._durable()
        self._metrics.collector_events("accepted", len(intake.events))
        self._metrics.collector_events("rejected", len(intake.rejected))
        return Response(_encode(Accepted(len(intake.events), intake.rejected)), 202, media_type="application/json")

    async def reports(self, request: Request) -> Response:
        """Take browsers' network reports."""
        if not self.accept_reports:
            return Response(status_code=410)
        received_at = now_us()
        prefix = self._prefix(request)
        body = await self._admit(request, _REPORT_TYPES, prefix)
        try:
            events, others = take_in_reports(
                body, received_at, prefix=prefix, shard=shard_of(prefix, self._deployment.shards)
            )
        except MalformedBatch as fault:
            self._dead_letters.put(received_at, fault.detail, body)
            raise _malformed(fault.detail) from None
        for event in events:
            self._journal.record(event)
        if events:
            await self._durable()
        self._metrics.collector_events("accepted", len(events))
        self._metrics.collector_events("rejected", others)
        return Response(status_code=202)

    def with_cors(self, handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """``handler`` behind the origin check, its refusals as replies, and the reply readable for allowed origins."""

        async def handle(request: Request) -> Response:
            origin, host = request.headers.get("origin"), request.headers.get("host")
            if not self._origins.allow(origin, host):
                return self._refuse(_FOREIGN_ORIGIN)
            try:
                response = await handler(request)
            except Refused as refusal:
                response = self._refuse(refusal)
            response.headers.update(self._origins.readable_headers(origin, host))
            return response

        return handle

    def preflight(self, request: Request) -> Response:
        """Answer a CORS preflight."""
        headers = self._origins.preflight_headers(
            request.headers.get("origin"),
            request.headers.get("host"),
            methods="POST",
            headers=f"Content-Type, Content-Encoding, {KEY_HEADER}",
        )
        return Response(status_code=204 if "Access-Control-Allow-Origin" in headers else 403, headers=headers)

    def _prefix(self, request: Request) -> str:
        peer = peer_address(request.scope.get("client"), request.scope["headers"], self._trusted)
        return address_prefix(peer.address)

    async def _admit(self, request: Request, types: frozenset[str], prefix: str) -> bytes:
        """The body of a request that may be taken, unpacked."""
        if self._write_key is not None:
            given = request.headers.get(KEY_HEADER) or request.query_params.get("key") or ""
            if not hmac.compare_digest(given.encode(errors="replace"), self._write_key):
                raise Refused(401, "unauthorized", "The write key is missing or wrong.", outcome="unauthorized")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in types:
            accepted = ", ".join(sorted(filter(None, types)))
            raise Refused(415, "unsupported media type", f"Send {accepted}.", outcome="malformed")
        wait_ms = self._rates.hit(prefix)
        if wait_ms is not None:
            raise Refused(
                429,
                "too many requests",
                "PULSETRAIL_TELEMETRY_RATE or PULSETRAIL_TELEMETRY_RATE_PER_ADDRESS is exceeded.",
                outcome="rate_limited",
                retry_after_ms=wait_ms,
            )
        if not self._journal.accepts_telemetry:
            raise _OVERLOADED
        try:
            body = await read_body(request, self._max_bytes)
            return unpack(body, request.headers.get("content-encoding", "").strip().lower(), self._max_bytes)
        except TooLarge:
            detail = f"A batch may have {self._max_bytes} bytes, before and after unpacking."
            raise Refused(413, "too large", detail, outcome="too_large") from None
        except Unreadable as fault:
            raise _malformed(str(fault)) from None

    async def _durable(self) -> None:
        try:
            await self._journal.durable()
        except JournalError:
            raise _OVERLOADED from None

    def _refuse(self, refusal: Refused) -> Response:
        self._metrics.collector_events(refusal.outcome)
        if self._log_lines.take():
            logger.warning("telemetry refused", extra={"fields": {"status": refusal.status, "detail": refusal.detail}})
        return refusal.response()


_FOREIGN_ORIGIN: Final = Refused(
    403, "foreign origin", "The origin is not in PULSETRAIL_ALLOWED_ORIGINS.", outcome="unauthorized"
)
_OVERLOADED: Final = Refused(
    503,
    "overloaded",
    "The journal takes no telemetry now; send the batch again later.",
    outcome="overloaded",
    retry_after_ms=OVERLOADED_RETRY_SECONDS * 1000,
)


def _malformed(detail: str) -> Refused:
    return Refused(400, "malformed", detail, outcome="malformed")


_TELEMETRY_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "description": "Durable. `rejected` lists the events that were not taken.",
        "content": {"application/json": {"schema": inlined_schema(Accepted)}},
    },
    400: {"description": "Not a batch; `detail` names the first fault and its path."},
    401: {"description": "The write key is missing or wrong."},
    403: {"description": "The page's origin is not allowed."},
    413: {"description": "Too large, before or after unpacking."},
    415: {"description": "Neither JSON nor text."},
    429: {"description": "Too many batches; see `Retry-After`."},
    503: {"description": "The journal is nearly full; see `Retry-After`."},
}
_KEY_PARAMETERS: Final = [
    {"name": "X-Pulsetrail-Key", "in": "header", "schema": {"type": "string"}, "description": "The write key."},
    {"name": "key", "in": "query", "schema": {"type": "string"}, "description": "The write key, for beacons."},
]


def router(collector: Collector) -> APIRouter:
    """The collector's routes, for an app of its own or the gateway's."""
    routes = APIRouter(tags=["collector"])
    batch = {"schema": batch_schema()}
    routes.add_api_route(
        "/v1/telemetry",
        collector.with_cors(collector.telemetry),
        methods=["POST"],
        name="telemetry",
        summary="Take a browser's account of its connections",
        response_class=Response,
        status_code=202,
        responses=_TELEMETRY_RESPONSES,
        openapi_extra={
            "parameters": _KEY_PARAMETERS,
            "requestBody": {"required": True, "content": {"application/json": batch, "text/plain": batch}},
        },
    )
    routes.add_api_route(
        "/v1/reports",
        collector.with_cors(collector.reports),
        methods=["POST"],
        name="reports",
        summary="Take browsers' network reports (Reporting API, Network Error Logging)",
        response_class=Response,
        status_code=202,
        responses={410: {"description": "Reports are off; the browser unsubscribes."}},
        openapi_extra={"parameters": _KEY_PARAMETERS},
    )
    for path in ("/v1/telemetry", "/v1/reports"):
        routes.add_api_route(path, collector.preflight, methods=["OPTIONS"], include_in_schema=False)
    return routes
