"""The gateway's HTTP routes: updates for publishers and for clients that fell back to polling, tickets, health."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field

from pulsetrail.errors import LogUnavailable
from pulsetrail.origins import Origins, is_literal
from pulsetrail.settings import AuthMode, is_loopback
from pulsetrail_service.auth import Authenticator, Forbidden, Unauthorized, bearer_of
from pulsetrail_service.connections import NOT_JSON
from pulsetrail_service.frames import encode_json
from pulsetrail_service.live_figures import RecentFigures
from pulsetrail_service.updates import Broadcaster
from pulsetrail_service.watchers import Watchers

PROBLEM = "application/problem+json"
_TOPIC = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$"

Readiness = Callable[[], dict[str, str]]
"""What is not ready, by part, each in a few words; empty when everything is."""


class NewUpdate(msgspec.Struct):
    """An update to broadcast."""

    topic: Annotated[str, msgspec.Meta(pattern=_TOPIC, examples=["prices"])]
    data: Annotated[Any, msgspec.Meta(examples=[{"EURUSD": 1.0831}])]


class Published(BaseModel):
    """The place that an update got."""

    stream_epoch: str
    stream_position: int


class Ticket(BaseModel):
    """A ticket: send it as the subprotocol ``ticket.<ticket>``, once."""

    ticket: str
    expires_in: float = Field(description="Seconds.")


class Publishing(NamedTuple):
    """Who may publish over HTTP: whoever has the token; without one, this machine."""

    token: str | None
    max_bytes: int


def problem(status: int, title: str, detail: str, *, retry_after: int | None = None) -> Response:
    """An error for programs (RFC 9457)."""
    body = encode_json({"type": "about:blank", "title": title, "status": status, "detail": detail})
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(body, status, headers, PROBLEM)


def is_local(request: Request) -> bool:
    """Whether the request came from this machine, not through a proxy that stands on it, and by no name: a foreign
    page could have made its own name point here (DNS rebinding)."""
    return (
        request.client is not None
        and is_loopback(request.client.host)
        and is_literal(request.headers.get("host", ""))
        and "x-forwarded-for" not in request.headers
        and "forwarded" not in request.headers
    )


def may(request: Request, token: str | None) -> bool:
    """Whether a request carries ``token``; without one set, whether it comes from this machine."""
    if token is None:
        return is_local(request)
    given = bearer_of(request.headers.get("authorization", ""))
    return secrets.compare_digest(given.encode(), token.encode())


def update_routes(
    broadcaster: Broadcaster,
    authenticator: Authenticator,
    publishing: Publishing,
    origins: Origins,
    watchers: Watchers,
) -> APIRouter:
    """``/v1/updates`` and ``/v1/tickets``; pages of allowed origins can read the replies."""
    router = APIRouter(prefix="/v1", tags=["updates"])

    def readable(request: Request, response: Response) -> Response:
        response.headers.update(origins.readable_headers(request.headers.get("origin"), request.headers.get("host")))
        return response

    async def preflight(request: Request) -> Response:
        headers = origins.preflight_headers(
            request.headers.get("origin"), request.headers.get("host"), methods="GET, POST", headers="Authorization"
        )
        return Response(status_code=204 if "Access-Control-Allow-Origin" in headers else 403, headers=headers)

    router.add_api_route("/updates", preflight, methods=["OPTIONS"], include_in_schema=False)

    @router.post("/updates", status_code=202, response_model=Published)
    async def publish(request: Request) -> Response:
        """Broadcast an update to every connected client."""
        if not origins.allow(request.headers.get("origin"), request.headers.get("host")):
            return problem(403, "forbidden", "The page's origin is not in PULSETRAIL_ALLOWED_ORIGINS.")
        if not may(request, publishing.token):
            return problem(401, "unauthorized", "Send PULSETRAIL_PUBLISH_TOKEN as a bearer token.")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > publishing.max_bytes:
                return problem(413, "too large", f"An update has at most {publishing.max_bytes} bytes.")
        try:
            update = msgspec.json.decode(body, type=NewUpdate)
        except NOT_JSON as error:
            return problem(400, "malformed", f"The update is not valid: {error}.")
        try:
            position = await broadcaster.publish(update.topic, update.data)
        except LogUnavailable as error:
            return problem(503, "unavailable", str(error), retry_after=5)
        return Response(
            encode_json({"stream_epoch": broadcaster.epoch, "stream_position": position}),
            202,
            media_type="application/json",
        )

    @router.get("/updates")
    async def poll(
        request: Request,
        since: Annotated[int | None, Query(ge=0)] = None,
        since_epoch: Annotated[str | None, Query(max_length=64)] = None,
        authorization: Annotated[str | None, Header()] = None,
    ) -> Response:
        """The updates since a place in the stream; ``resumed`` is false when they are not all to be had."""
        refused = _refusal(authenticator, authorization)
        if refused is not None:
            return readable(request, refused)
        watchers.polled()
        replay = broadcaster.replay(since_epoch, since)
        body = encode_json(
            {
                "stream_epoch": broadcaster.epoch,
                "stream_position": broadcaster.ring.head,
                "resumed": replay.resumed,
                "updates": [msgspec.Raw(update.message()) for update in replay.updates],
            }
        )
        answer = Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})
        return readable(request, answer)

    if authenticator.mode is AuthMode.TICKET:

        @router.post("/tickets", response_model=Ticket)
        async def ticket(request: Request, authorization: Annotated[str | None, Header()] = None) -> Response:
            """A ticket for one handshake, for the bearer of a token."""
            refused = _refusal(authenticator, authorization)
            if refused is not None:
                return readable(request, refused)
            issued, seconds = authenticator.issue_ticket(authenticator.bearer(bearer_of(authorization or "")))
            body = encode_json({"ticket": issued, "expires_in": seconds})
            answer = Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})
            return readable(request, answer)

        router.add_api_route("/tickets", preflight, methods=["OPTIONS"], include_in_schema=False)

    return router


def figure_routes(recent: RecentFigures, authenticator: Authenticator) -> APIRouter:
    """``/v1/figures``: what the live figures were in the last minutes."""
    router = APIRouter(prefix="/v1", tags=["updates"])

    @router.get("/figures")
    async def figures(
        since: Annotated[int, Query(ge=0, le=1 << 53)] = 0,
        authorization: Annotated[str | None, Header()] = None,
    ) -> Response:
        """The live figures of the last ten minutes, one every five seconds; those after ``since`` (milliseconds since
        1970)."""
        refused = _refusal(authenticator, authorization)
        if refused is not None:
            return refused
        body = encode_json({"figures": [msgspec.Raw(one) for one in recent.after(since)]})
        return Response(body, media_type="application/json", headers={"Cache-Control": "no-store"})

    return router


def _refusal(authenticator: Authenticator, authorization: str | None) -> Response | None:
    """Why a request with this header is turned away: polling is for the same people as connecting."""
    if authenticator.mode is AuthMode.NONE:
        return None
    try:
        authenticator.bearer(bearer_of(authorization or ""))
    except Unauthorized as error:
        return problem(401, "unauthorized", f"{error}.")
    except Forbidden as error:
        return problem(403, "forbidden", f"{error}.")
    return None


def health_routes(readiness: Readiness) -> APIRouter:
    """``/healthz`` (this process answers) and ``/readyz`` (it takes connections)."""
    router = APIRouter(tags=["health"])

    @router.get("/healthz")
    async def healthz() -> Response:
        """The process is alive."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    @router.get("/readyz")
    async def readyz() -> Response:
        """Whether the gateway takes connections. Neither the database being away (the journal takes its place) nor a
        suspended broadcast keeps it from that; the answer says so under ``degraded``."""
        waiting = readiness()
        degraded = {part: waiting.pop(part) for part in ("log", "broadcast") if part in waiting}
        body = {"status": "waiting" if waiting else "ready", "waiting": waiting, "degraded": degraded}
        return Response(encode_json(body), 503 if waiting else 200, media_type="application/json")

    return router
