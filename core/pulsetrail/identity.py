"""Identifiers: who is who in the log, and in which shard.

The log never holds a client's own id. It holds ``client_ref``, a keyed hash, so that erasing one row of
``client_identity`` makes a person unreadable while the log stays append-only. The key is made at the first migration.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
import time
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import NamedTuple
from uuid import UUID

KEY_BYTES = 32
_RANDOM = (1 << 74) - 1
_TAIL = (1 << 62) - 1
_STEP = (1 << 40) - 1


_making = threading.Lock()
_last = 0
"""The newest id without its version and variant: 48 bits of milliseconds, 74 that are random."""


def new_id() -> UUID:
    """A UUIDv7: unique, sorted by the millisecond of its making (RFC 9562, section 5.7), and greater than every one
    that this process has made before, also when the clock was set back (section 6.2, method 2)."""
    global _last
    fresh = (time.time_ns() // 1_000_000) << 74 | int.from_bytes(os.urandom(10), "big") & _RANDOM
    with _making:
        if fresh <= _last:
            fresh = _last + 1 + (fresh & _STEP)
        _last = fresh
    return UUID(int=fresh >> 74 << 80 | 0x7 << 76 | (fresh >> 62 & 0xFFF) << 64 | 0x2 << 62 | fresh & _TAIL)


def client_ref(key: bytes, client_id: str) -> UUID:
    """The pseudonym of a client: the first 128 bits of HMAC-SHA-256 (RFC 2104) over its id."""
    return UUID(bytes=hmac.digest(key, client_id.encode(), "sha256")[:16])


def shard_of(subject: UUID | str, shards: int) -> int:
    """The shard of a client (by its ``client_ref``), or of a node or address prefix (by its text).

    The first 8 bytes of SHA-256 as a big-endian number, modulo ``shards``. It is written down with test vectors and
    never changes: events of one client must stay in one shard.
    """
    raw = subject.bytes if isinstance(subject, UUID) else subject.encode()
    return int.from_bytes(hashlib.sha256(raw).digest()[:8], "big") % shards


@lru_cache(maxsize=4096)
def address_prefix(address: str) -> str:
    """The network an address belongs to, as far as we store it: /24 for IPv4, /48 for IPv6, ``unknown`` otherwise.

    >>> address_prefix("192.0.2.77")
    '192.0.2.0/24'
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"
    if not isinstance(parsed, IPv4Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return str(ip_network(f"{parsed}/{24 if isinstance(parsed, IPv4Address) else 48}", strict=False))


class ClientIdentity(NamedTuple):
    """One row of ``client_identity``, the only place that can name a client."""

    client_ref: UUID
    client_id: str
    subject: str | None = None
    """Who the token said it is, if there was one."""
