"""Tokens and tickets."""

from __future__ import annotations

import time

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pulsetrail.settings import AuthMode
from pulsetrail_service.auth import Authenticator, Forbidden, Identity, Unauthorized

KEY = "k" * 32
TICKET_KEY = "t" * 32


def token(key: str = KEY, algorithm: str = "HS256", **claims: object) -> str:
    return jwt.encode({"sub": "ann", "exp": int(time.time()) + 60, **claims}, key, algorithm=algorithm)


def bearer_mode(audience: str = "") -> Authenticator:
    return Authenticator(AuthMode.JWT, key=KEY, audience=audience)


def ticket_mode(seconds: float = 30.0) -> Authenticator:
    return Authenticator(AuthMode.TICKET, key=KEY, ticket_key=TICKET_KEY, ticket_seconds=seconds)


def test_a_bearer_token_is_taken_from_the_header_or_from_a_subprotocol() -> None:
    auth = bearer_mode()
    assert auth.handshake(f"Bearer {token()}", []).subject == "ann"
    assert auth.handshake(None, ["pulsetrail.v1", f"bearer.{token()}"]).subject == "ann"


@pytest.mark.parametrize(
    "bad", ["", "x", token("o" * 32), token(exp=int(time.time()) - 1), jwt.encode({"sub": "ann"}, "", "none")]
)
def test_a_token_that_is_no_good_lets_nobody_in(bad: str) -> None:
    with pytest.raises(Unauthorized):
        bearer_mode().handshake(f"Bearer {bad}", [])


def test_no_token_lets_nobody_in() -> None:
    with pytest.raises(Unauthorized):
        bearer_mode().handshake(None, ["pulsetrail.v1"])


def test_a_token_for_another_audience_is_forbidden() -> None:
    auth = bearer_mode(audience="dashboards")
    assert auth.bearer(token(aud="dashboards")).subject == "ann"
    with pytest.raises(Forbidden):
        auth.bearer(token(aud="billing"))


def test_a_public_key_checks_tokens_and_cannot_be_used_as_a_secret() -> None:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    auth = Authenticator(AuthMode.JWT, key=public.decode(), algorithm="RS256")
    signed = jwt.encode({"sub": "ann"}, private, algorithm="RS256")
    assert auth.bearer(signed) == Identity("ann", None)
    with pytest.raises(Unauthorized):
        auth.bearer(token())


def test_a_ticket_is_good_once() -> None:
    auth = ticket_mode()
    ticket, seconds = auth.issue_ticket(Identity("ann", 4_000_000_000.0))
    assert seconds == 30.0
    assert auth.handshake(None, [f"ticket.{ticket}"]) == Identity("ann", 4_000_000_000.0)
    with pytest.raises(Unauthorized, match="used before"):
        auth.handshake(None, [f"ticket.{ticket}"])


def test_a_ticket_goes_out_of_date() -> None:
    auth = ticket_mode(seconds=-1.0)
    ticket, _ = auth.issue_ticket(Identity("ann"))
    with pytest.raises(Unauthorized, match="expired"):
        auth.handshake(None, [f"ticket.{ticket}"])


def test_a_bearer_token_is_no_ticket() -> None:
    with pytest.raises(Unauthorized):
        ticket_mode().handshake(None, [f"ticket.{token(TICKET_KEY)}"])


def test_used_tickets_are_forgotten_when_they_are_out_of_date() -> None:
    now = [time.time() - 100]
    auth = Authenticator(AuthMode.TICKET, key=KEY, ticket_key=TICKET_KEY, ticket_seconds=200, clock=lambda: now[0])
    for _ in range(50):
        auth.handshake(None, [f"ticket.{auth.issue_ticket(Identity('ann'))[0]}"])
    now[0] += 500
    fresh = Authenticator(AuthMode.TICKET, key=KEY, ticket_key=TICKET_KEY).issue_ticket(Identity("ann"))[0]
    auth.handshake(None, [f"ticket.{fresh}"])
    assert len(auth._used) == 1
