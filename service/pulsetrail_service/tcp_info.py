"""The kernel's side of a TCP connection: what it knows (``TCP_INFO``) and how it is set up; tcp(7), linux/tcp.h."""

from __future__ import annotations

import socket
import struct
import sys
from asyncio import BaseTransport
from contextlib import suppress
from typing import Final

from pulsetrail.events import TcpInfo

# struct tcp_info: eight bytes, then 32-bit words up to tcpi_total_retrans; the kernel only ever appends to it.
_LAYOUT: Final = struct.Struct("=8B24I")
_SUPPORTED: Final = sys.platform == "linux"

NOT_SENT_BYTES: Final = 128 * 1024
"""Unsent bytes that the kernel takes from us. By itself it takes megabytes for a client that does not read, where
nobody sees them: that client would be found out late, and a thousand of them would fill the memory."""


def read_tcp_info(transport: BaseTransport) -> TcpInfo | None:
    """A snapshot, also inside ``connection_lost``; ``None`` where the platform or the socket has none."""
    if not _SUPPORTED:
        return None
    sock = transport.get_extra_info("socket")
    if sock is None:
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAYOUT.size)
    except OSError:
        return None
    if len(raw) < _LAYOUT.size:
        return None
    fields = _LAYOUT.unpack(raw)
    words = fields[8:]
    return TcpInfo(
        state=fields[0],
        retransmits=fields[2],
        backoff=fields[4],
        unacked=words[4],
        lost=words[6],
        last_data_sent_ms=words[9],
        last_data_recv_ms=words[11],
        last_ack_recv_ms=words[12],
        rtt_us=words[15],
        rttvar_us=words[16],
        total_retrans=words[23],
    )


def tune(transport: BaseTransport, user_timeout: float) -> None:
    """Set up an accepted socket.

    Args:
        transport: the socket's.
        user_timeout: seconds after which the kernel gives up on a dead path (``TCP_USER_TIMEOUT``, RFC 5482); 0 leaves
            it alone.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or not _SUPPORTED:
        return
    with suppress(OSError):  # a Unix socket has no path to lose
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, NOT_SENT_BYTES)
        if user_timeout:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))
