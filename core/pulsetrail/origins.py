"""Which pages may talk to us (RFC 6454 origins), and what browsers are told about it (CORS, Fetch standard).

Credentials are never allowed, because no route looks at cookies.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

ANY = "*"
PREFLIGHT_SECONDS = 7200


class Origins:
    """The allow-list of origins."""

    def __init__(self, allowed: Iterable[str]) -> None:
        """``allowed`` holds origins such as ``https://app.example.com``, or ``*``."""
        self._allowed = frozenset(allowed)

    def allow(self, origin: str | None, host: str | None) -> bool:
        """Whether a request with these two headers is welcome.

        A program that is no browser sends no origin. The service's own pages are welcome where its address is spelled
        in numbers or as localhost: a name could be made to point here by anyone (DNS rebinding).
        """
        if origin is None or ANY in self._allowed or origin in self._allowed:
            return True
        return host is not None and origin.partition("://")[2] == host and is_literal(host)

    def readable_headers(self, origin: str | None, host: str | None) -> dict[str, str]:
        """Headers that let an allowed page read a reply."""
        if origin is None or not self.allow(origin, host):
            return {"Vary": "Origin"}
        headers = {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": "Retry-After"}
        return {**headers, "Vary": "Origin"}

    def preflight_headers(self, origin: str | None, host: str | None, *, methods: str, headers: str) -> dict[str, str]:
        """Headers of the reply to a preflight; without ``Access-Control-Allow-Origin`` it is refused."""
        answer = self.readable_headers(origin, host)
        if "Access-Control-Allow-Origin" not in answer:
            return answer
        del answer["Access-Control-Expose-Headers"]
        return {
            **answer,
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": headers,
            "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
        }


def is_literal(host: str) -> bool:
    """Whether a ``Host`` header spells an address in numbers, or localhost."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ip_address(name)
    except ValueError:
        return host.partition(":")[0] == "localhost"
    return True
