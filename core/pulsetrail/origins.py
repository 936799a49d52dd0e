"""Which pages may talk to us (RFC 6454 origins)."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

ANY = "*"


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
        return host is not None and origin.partition("://")[2] == host and _is_literal(host)


def _is_literal(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        ip_address(name)
    except ValueError:
        return host.partition(":")[0] == "localhost"
    return True
