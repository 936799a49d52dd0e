"""What a client says of itself when it connects, and whether it may.

``parse_query`` is pure. ``Admission`` goes through the checks in their order, cheapest first: origin, rate, limits,
overload, then credentials. A browser cannot read the status of a failed upgrade, so what its page must tell apart is
accepted and closed at once with a code of its own; beyond a hard ceiling, and for a foreign origin, the answer is
plain HTTP.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Protocol
from urllib.parse import parse_qsl
from uuid import UUID

from pulsetrail.addresses import Networks, peer_address
from pulsetrail.close_codes import CLIENT_CAUSES, Phase, Reason, code_for
from pulsetrail.events import Previous
from pulsetrail.identity import address_prefix
from pulsetrail.origins import Origins
from pulsetrail.rates import RateLimiter
from pulsetrail_service.auth import Authenticator, Forbidden, Identity, Unauthorized
from pulsetrail_service.upgrade import Upgrade, subprotocols

SUBPROTOCOL: Final = "pulsetrail.v1"

MAX_QUERY: Final = 2048
"""Bytes of a query that are looked at."""

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,63}")
_MAX_COUNT: Final = 1_000_000
_MAX_MS: Final = 366 * 86_400_000
_CEILING: Final = 2
"""Times its rate at which an address gets plain HTTP instead of an accepted socket."""


class Hello(NamedTuple):
    """The query of a handshake, validated; what was not valid is ``None`` or ``other``."""

    client: str | None = None
    page: str | None = None
    app: str | None = None
    release: str | None = None
    since: int | None = None
    since_epoch: str | None = None
    watches: bool = False
    """It wants the service's own live figures."""
    previous: Previous | None = None


def _word(value: str | None) -> str | None:
    if not value:
        return None
    return value if _WORD.fullmatch(value) else "other"


def _identifier(value: str | None) -> str | None:
    """An id that is not well-formed is none: two clients must not become one called ``other``."""
    return value if value and _WORD.fullmatch(value) else None


def _number(value: str | None, highest: int) -> int | None:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 16:
        return None
    number = int(value)
    return number if number <= highest else None


def _uuid(value: str | None) -> UUID | None:
    try:
        return UUID(value) if value and len(value) == 36 else None
    except ValueError:
        return None


def parse_query(query: bytes) -> Hello:
    """The query string of ``/ws/updates``; hostile input gives an empty ``Hello``, never an error."""
    try:
        pairs = parse_qsl(query[:MAX_QUERY].decode("ascii"), max_num_fields=32)
    except (UnicodeDecodeError, ValueError):
        return Hello()
    values = dict(pairs)
    cause = values.get("cause")
    previous = Previous(
        connection=_uuid(values.get("prev")),
        code=_number(values.get("prev_code"), 4999),
        clean={"true": True, "1": True, "false": False, "0": False}.get(values.get("prev_clean", "")),
        cause=None if not cause else cause if cause in CLIENT_CAUSES else "other",
        attempt=_number(values.get("attempt"), _MAX_COUNT),
        backoff_ms=_number(values.get("backoff_ms"), _MAX_MS),
        downtime_ms=_number(values.get("downtime_ms"), _MAX_MS),
    )
    return Hello(
        client=_identifier(values.get("client")),
        page=_identifier(values.get("page")),
        app=_word(values.get("app")),
        release=_word(values.get("release")),
        since=_number(values.get("since"), 1 << 53),
        since_epoch=_identifier(values.get("since_epoch")),
        watches=values.get("watch") == "telemetry",
        previous=previous if previous != Previous() else None,
    )


class Request(NamedTuple):
    """What the checks need of a handshake."""

    address: str
    prefix: str
    behind_proxy: bool
    origin: str | None
    host: str | None
    authorization: str | None
    user_agent: str
    subprotocols: list[str]
    hello: Hello


def read_request(upgrade: Upgrade, trusted: Networks) -> Request:
    """The parts of an upgrade request that matter here."""
    found = dict(reversed(upgrade.headers))
    peer = peer_address(upgrade.client, upgrade.headers, trusted)

    def text(name: bytes) -> str | None:
        value = found.get(name)
        return None if value is None else value.decode("latin-1")

    return Request(
        address=peer.address,
        prefix=address_prefix(peer.address),
        behind_proxy=peer.behind_proxy,
        origin=text(b"origin"),
        host=text(b"host"),
        authorization=text(b"authorization"),
        user_agent=text(b"user-agent") or "",
        subprotocols=subprotocols(upgrade.headers),
        hello=parse_query(upgrade.query),
    )


class Refusal(NamedTuple):
    """Why a handshake was refused and how the client is told: ``status`` 101 means accepted and closed at once."""

    reason: Reason
    status: int
    phase: Phase = Phase.HANDSHAKE
    retry_after_ms: int | None = None
    detail: str | None = None

    @property
    def close_code(self) -> int | None:
        """The code that the client gets, if it gets one."""
        return code_for(self.reason) if self.status == 101 else None


class Occupancy(Protocol):
    """How full the process is."""

    def __len__(self) -> int: ...

    @property
    def per_prefix(self) -> dict[str, int]: ...

    @property
    def draining(self) -> bool: ...


class Admission:
    """Whether a handshake may become a connection."""

    def __init__(
        self,
        authenticator: Authenticator,
        rates: RateLimiter,
        *,
        origins: Origins,
        max_connections: int,
        max_connections_per_address: int,
        ceiling: RateLimiter,
    ) -> None:
        """``rates`` refuses politely, ``ceiling`` with plain HTTP."""
        self._authenticator = authenticator
        self._rates = rates
        self._ceiling = ceiling
        self._origins = origins
        self._max_connections = max_connections
        self._max_per_address = max_connections_per_address

    def check(self, request: Request, occupancy: Occupancy, *, journal_accepts: bool) -> Refusal | Identity:
        """Go through the checks; the first that fails decides."""
        if not self._origins.allow(request.origin, request.host):
            return Refusal(Reason.FORBIDDEN, 403, detail="the origin is not in PULSETRAIL_ALLOWED_ORIGINS")
        wait = self._ceiling.hit(request.prefix)
        if wait is not None:
            return Refusal(
                Reason.RATE_LIMITED, 429, retry_after_ms=wait, detail="PULSETRAIL_HANDSHAKE_RATE, twice over"
            )
        wait = self._rates.hit(request.prefix)
        if wait is not None:
            return Refusal(
                Reason.RATE_LIMITED,
                101,
                retry_after_ms=wait,
                detail="PULSETRAIL_HANDSHAKE_RATE or PULSETRAIL_HANDSHAKE_RATE_PER_ADDRESS",
            )
        if len(occupancy) >= self._max_connections:
            return Refusal(Reason.CONNECTION_LIMIT, 101, detail="PULSETRAIL_MAX_CONNECTIONS")
        if occupancy.per_prefix.get(request.prefix, 0) >= self._max_per_address:
            return Refusal(Reason.CONNECTION_LIMIT, 101, detail="PULSETRAIL_MAX_CONNECTIONS_PER_ADDRESS")
        if occupancy.draining:
            return Refusal(Reason.SERVER_SHUTDOWN, 503, Phase.DRAINING, retry_after_ms=1000)
        if not journal_accepts:
            return Refusal(Reason.OVERLOADED, 101, retry_after_ms=10_000, detail="the journal is nearly full")
        try:
            return self._authenticator.handshake(request.authorization, request.subprotocols)
        except Unauthorized as error:
            return Refusal(Reason.UNAUTHORIZED, 101, Phase.AUTH, detail=str(error))
        except Forbidden as error:
            return Refusal(Reason.FORBIDDEN, 101, Phase.AUTH, detail=str(error))


def ceiling_of(notation: str) -> str:
    """The notation of the hard ceiling above a rate: twice its amount."""
    return re.sub(r"\d+(?=\s*(?:/|per))", lambda match: str(int(match[0]) * _CEILING), notation)
