"""Whose address a request came from, when proxies may stand between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

Networks = Sequence[IPv4Network | IPv6Network]


class Peer(NamedTuple):
    """The client's address as far as it can be believed, and whether a trusted proxy reported it."""

    address: str
    behind_proxy: bool


def networks(texts: Iterable[str]) -> Networks:
    """The trusted proxies' networks, parsed.

    Raises:
        ValueError: one of the texts is not a network.
    """
    return tuple(ip_network(text) for text in texts)


def _trusted(address: str, trusted: Networks) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in trusted)


def _hops(values: Iterable[bytes]) -> list[str]:
    """The entries of all ``X-Forwarded-For`` headers in order, without ports and brackets."""
    hops = []
    for entry in b",".join(values).decode("latin-1").split(","):
        hop = entry.strip()
        if hop.startswith("["):
            hop = hop[1:].partition("]")[0]
        elif hop.count(":") == 1:
            hop = hop.partition(":")[0]
        hops.append(hop)
    return hops


def peer_address(client: tuple[str, int] | None, headers: Iterable[tuple[bytes, bytes]], trusted: Networks) -> Peer:
    """The address of the last party that a trusted proxy has seen itself.

    ``client`` and ``headers`` are those of the ASGI scope. ``X-Forwarded-For`` is read from the right, the only end
    that a client cannot write, and only while the party that reported it is trusted.
    """
    address = client[0] if client else ""
    if not trusted or not _trusted(address, trusted):
        return Peer(address, behind_proxy=False)
    values = [value for name, value in headers if name == b"x-forwarded-for"]
    for hop in reversed(_hops(values) if values else []):
        try:
            ip_address(hop.partition("%")[0])
        except ValueError:
            break  # "unknown", or made up: nothing beyond it can be believed
        address = hop
        if not _trusted(hop, trusted):
            break
    return Peer(address, behind_proxy=True)
