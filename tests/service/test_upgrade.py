"""Opening handshakes as RFC 6455 has them; no socket."""

from __future__ import annotations

import pytest

from pulsetrail_service.upgrade import (
    BadUpgrade,
    Upgrade,
    accept_key,
    plain_response,
    subprotocols,
    switching_protocols,
)

KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")


def upgrade(*headers: tuple[bytes, bytes], method: bytes = b"GET", http_version: str = "1.1") -> Upgrade:
    return Upgrade(None, False, method, http_version, b"", list(headers))


def test_the_accept_key_is_the_one_of_the_rfc() -> None:
    assert accept_key(upgrade(KEY, VERSION)) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "RFC 6455, section 1.3"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (upgrade(KEY, VERSION, method=b"POST"), 400),
        (upgrade(KEY, VERSION, http_version="1.0"), 400),
        (upgrade(VERSION), 400),
        (upgrade(KEY, KEY, VERSION), 400),
        (upgrade((KEY[0], b"short"), VERSION), 400),
        (upgrade((KEY[0], b"!" * 24), VERSION), 400),
        (upgrade(KEY), 426),
        (upgrade(KEY, (VERSION[0], b"8")), 426),
        (upgrade(KEY, VERSION, VERSION), 426),
        (upgrade(KEY, VERSION, *[(b"x", b"y")] * 127), 431),
        (upgrade(KEY, VERSION, (b"x", b"y" * 8193)), 431),
    ],
    ids=[
        "a POST",
        "HTTP/1.0",
        "no key",
        "two keys",
        "a short key",
        "a key that is no base64",
        "no version",
        "an old version",
        "two versions",
        "too many headers",
        "a header that is too long",
    ],
)
def test_what_is_no_handshake_is_refused_with_its_status(asked: Upgrade, status: int) -> None:
    with pytest.raises(BadUpgrade) as caught:
        accept_key(asked)
    assert caught.value.status == status


def test_subprotocols_come_in_the_clients_order_from_all_headers() -> None:
    name = b"sec-websocket-protocol"
    assert subprotocols([(name, b"a, b"), (b"x", b"y"), (name, b"c")]) == ["a", "b", "c"]


def test_the_answers_are_whole_responses() -> None:
    assert switching_protocols(b"KEY", "pulsetrail.v1").endswith(
        b"KEY\r\nSec-WebSocket-Protocol: pulsetrail.v1\r\n\r\n"
    )
    assert switching_protocols(b"KEY", None).endswith(b"Sec-WebSocket-Accept: KEY\r\n\r\n")
    plain = plain_response(426, b"text/plain", b"no\n", (b"sec-websocket-version", b"13"))
    assert plain == (
        b"HTTP/1.1 426 Upgrade Required\r\nsec-websocket-version: 13\r\ncontent-type: text/plain\r\n"
        b"content-length: 3\r\nconnection: close\r\n\r\nno\n"
    )
