"""Who a client is: bearer tokens (RFC 7519) and tickets. Nothing here needs the database.

A ticket is a short-lived, signed stand-in for a bearer token. A browser cannot put a header on a WebSocket handshake
and a token does not belong into a URL, where proxies log it; a ticket travels as a subprotocol and is good once.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jwt

from pulsetrail.settings import AuthMode

_TICKET_AUDIENCE: Final = "pulsetrail.ticket"
_BEARER: Final = "bearer."
_TICKET: Final = "ticket."
_MAX_SUBJECT: Final = 128


class Identity(NamedTuple):
    """Who was let in; ``expires`` is in seconds since 1970, ``None`` for never."""

    subject: str | None = None
    expires: float | None = None


class Unauthorized(Exception):
    """The credentials are missing or no good; the sentence is fit for the log, not for the client."""


class Forbidden(Exception):
    """The credentials are good, but not for this."""


class Authenticator:
    """Checks the credentials of handshakes and publishers."""

    def __init__(
        self,
        mode: AuthMode,
        *,
        key: str | None = None,
        algorithm: str = "HS256",
        audience: str = "",
        ticket_key: str = "",
        ticket_seconds: float = 30.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.mode = mode
        self._key = key
        self._algorithm = algorithm
        self._audience = audience
        self._ticket_key = ticket_key
        self._ticket_seconds = ticket_seconds
        self._clock = clock
        self._used: dict[str, float] = {}

    def handshake(self, authorization: str | None, subprotocols: list[str]) -> Identity:
        """Who connects.

        Raises:
            Unauthorized: nobody we know.
        """
        if self.mode is AuthMode.NONE:
            return Identity()
        for offered in subprotocols:
            if self.mode is AuthMode.TICKET and offered.startswith(_TICKET):
                return self._redeem(offered.removeprefix(_TICKET))
            if self.mode is AuthMode.JWT and offered.startswith(_BEARER):
                return self.bearer(offered.removeprefix(_BEARER))
        if self.mode is AuthMode.JWT and authorization is not None:
            return self.bearer(bearer_of(authorization))
        raise Unauthorized(f"no {self.mode} came with the handshake")

    def bearer(self, token: str) -> Identity:
        """Who a bearer token names.

        Raises:
            Unauthorized: it is malformed, expired, or not signed with our key.
            Forbidden: it is for another audience.
        """
        if self._key is None:
            raise Unauthorized("no key is set for bearer tokens")
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
                audience=self._audience or None,
                options={"verify_aud": bool(self._audience)},
            )
        except jwt.InvalidAudienceError as error:
            raise Forbidden(str(error)) from None
        except jwt.InvalidTokenError as error:
            raise Unauthorized(str(error)) from None
        return _identity(claims)

    def issue_ticket(self, identity: Identity) -> tuple[str, float]:
        """A ticket for a bearer, and the seconds for which it is good."""
        now = self._clock()
        claims: dict[str, Any] = {
            "aud": _TICKET_AUDIENCE,
            "exp": now + self._ticket_seconds,
            "jti": secrets.token_urlsafe(12),
        }
        if identity.subject is not None:
            claims["sub"] = identity.subject
        if identity.expires is not None:
            claims["until"] = identity.expires
        return jwt.encode(claims, self._ticket_key, algorithm="HS256"), self._ticket_seconds

    def _redeem(self, ticket: str) -> Identity:
        try:
            claims = jwt.decode(ticket, self._ticket_key, algorithms=["HS256"], audience=_TICKET_AUDIENCE)
        except jwt.InvalidTokenError as error:
            raise Unauthorized(str(error)) from None
        now = self._clock()
        # Tickets were made in the order in which they expire, near enough to forget from the front.
        while self._used and next(iter(self._used.values())) < now:
            del self._used[next(iter(self._used))]
        if claims["jti"] in self._used:
            raise Unauthorized("the ticket was used before")
        self._used[claims["jti"]] = claims["exp"]
        return Identity(claims.get("sub"), claims.get("until"))


def bearer_of(authorization: str) -> str:
    """The token of an ``Authorization`` header (RFC 6750, section 2.1); empty if there is none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _identity(claims: dict[str, Any]) -> Identity:
    subject, expires = claims.get("sub"), claims.get("exp")
    return Identity(
        str(subject)[:_MAX_SUBJECT] if subject is not None else None,
        float(expires) if expires is not None else None,
    )
