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
    "The Monitor page is not built: install Node 20.19 or newer and run scripts/build-web in the checkout "
    "(make run does it too).\n"
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

_PAGE: Final = "monitor.html"
_MODE: Final = 'data-auth-mode="none"'
_KEPT: Final = "public, max-age=31536000, immutable"
_HERE: Final = Path(__file__).resolve().parent


def pages_directory() -> Path:
    """Where the built pages are, if they are: in an installed wheel beside this file, in a checkout under ``web/``."""
    installed = _HERE / "web"
    return installed if installed.is_dir() else _HERE.parents[1] / "web" / "dist"


def is_built(pages: Path) -> bool:
    """Whether there is a Monitor page."""
    return (pages / _PAGE).is_file()


def page_routes(pages: Path, auth_mode: AuthMode) -> APIRouter:
    """``/monitor`` and what it is made of, from ``pages``, also when they are built while the service runs. Before that
    ``/monitor`` says how to make them.

    The page is told ``auth_mode``, so that it can say what it needs before it is refused.
    """
    router = APIRouter(include_in_schema=False)
    assets = StaticFiles(directory=pages / "assets", check_dir=False)

    # Not async: these read files, in a thread of their own.

    @router.api_route("/", methods=["GET", "HEAD"])
    def root() -> Response:
        return RedirectResponse(MONITOR, 307) if is_built(pages) else PlainTextResponse(NOT_BUILT, 404)

    @router.api_route(MONITOR, methods=["GET", "HEAD"])
    def monitor(request: Request) -> Response:
        try:
            page = (pages / _PAGE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return PlainTextResponse(NOT_BUILT, 404)
        body = page.replace(_MODE, _MODE.replace("none", auth_mode), 1).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
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
