"""The pages that people watch, as ``scripts/build-web`` makes them: static files, and headers that let nothing else in.

A page's file is asked for again each time, its parts have their content's hash in their names and are kept for ever.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

from pulsetrail.settings import AuthMode

MONITOR: Final = "/monitor"
NOT_BUILT: Final = (
    "The Monitor page is not built: install Node 20 or newer and run scripts/build-web in the checkout (make run does "
    "it too), then start the service again."
)

SECURITY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Not no-referrer: the page's beacons would carry no origin then, and the collector would refuse them.
    "Referrer-Policy": "same-origin",
}

_MODE: Final = 'data-auth-mode="none"'
_KEPT: Final = "public, max-age=31536000, immutable"
_HERE: Final = Path(__file__).resolve().parent


def find_pages() -> Path | None:
    """The directory of the built pages: in an installed wheel beside this file, in a checkout under ``web/``."""
    candidates = (_HERE / "web", _HERE.parents[1] / "web" / "dist")
    return next((path for path in candidates if (path / "monitor.html").is_file()), None)


def page_routes(pages: Path | None, auth_mode: AuthMode) -> APIRouter:
    """``/monitor`` and what it is made of. Without ``pages``, ``/monitor`` says how to make them.

    The page is told ``auth_mode``, so that it can say what it needs before it is refused.
    """
    router = APIRouter(include_in_schema=False)
    if pages is None:

        @router.get(MONITOR)
        async def not_built() -> Response:
            return PlainTextResponse(f"{NOT_BUILT}\n", 404)

        return router

    page = (pages / "monitor.html").read_text(encoding="utf-8")
    body = page.replace(_MODE, _MODE.replace("none", auth_mode), 1).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    assets = StaticFiles(directory=pages / "assets")

    @router.api_route("/", methods=["GET", "HEAD"])
    async def root() -> Response:
        return RedirectResponse(MONITOR, 307)

    @router.api_route(MONITOR, methods=["GET", "HEAD"])
    async def monitor(request: Request) -> Response:
        headers = {**SECURITY, "Cache-Control": "no-cache", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, headers=headers, media_type="text/html")

    @router.api_route("/assets/{path:path}", methods=["GET", "HEAD"])
    async def asset(path: str, request: Request) -> Response:
        response = await assets.get_response(path, request.scope)
        response.headers.update({**SECURITY, "Cache-Control": _KEPT})
        return response

    return router
