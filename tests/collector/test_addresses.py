import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsetrail.addresses import Peer, networks, peer_address

PROXIES = networks(["10.0.0.0/8", "fd00::/8"])


def forwarded(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", value.encode()) for value in values]


def test_without_trusted_proxies_the_header_counts_for_nothing() -> None:
    assert peer_address(("192.0.2.7", 1), forwarded("198.51.100.1"), ()) == Peer("192.0.2.7", behind_proxy=False)


def test_a_stranger_cannot_name_another_address() -> None:
    assert peer_address(("192.0.2.7", 1), forwarded("198.51.100.1"), PROXIES) == Peer("192.0.2.7", behind_proxy=False)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["198.51.100.1"], "198.51.100.1"),
        (["203.0.113.9, 198.51.100.1"], "198.51.100.1"),
        (["198.51.100.1, 10.1.2.3"], "198.51.100.1"),
        (["203.0.113.9", "198.51.100.1, 10.1.2.3"], "198.51.100.1"),
        (["198.51.100.1:5123"], "198.51.100.1"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["2001:db8::1, fd00::5"], "2001:db8::1"),
        (["10.9.9.9"], "10.9.9.9"),
        (["198.51.100.1, unknown"], "10.0.0.1"),
        (["<script>, 198.51.100.1"], "198.51.100.1"),
        ([], "10.0.0.1"),
    ],
)
def test_behind_trusted_proxies_the_nearest_party_that_is_none_of_them_is_the_client(
    values: list[str], expected: str
) -> None:
    assert peer_address(("10.0.0.1", 1), forwarded(*values), PROXIES) == Peer(expected, behind_proxy=True)


def test_a_proxy_that_connects_over_a_mapped_address_is_trusted_too() -> None:
    assert peer_address(("::ffff:10.0.0.1", 1), forwarded("198.51.100.1"), PROXIES).address == "198.51.100.1"


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_no_header_makes_it_fail(values: list[bytes]) -> None:
    peer_address(("10.0.0.1", 1), [(b"x-forwarded-for", value) for value in values], PROXIES)


def test_a_unix_socket_has_no_address() -> None:
    assert peer_address(None, [], PROXIES) == Peer("", behind_proxy=False)
