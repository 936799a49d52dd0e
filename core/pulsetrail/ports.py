"""The public port: taken or not, and one socket of its own for each gateway process.

Every process binds its own ``SO_REUSEPORT`` socket, so that the kernel spreads the connections over them. The same
option would let a second instance share the port in silence; that is why the port is probed without it first.
"""

from __future__ import annotations

import errno
import socket
import time

from pulsetrail.errors import PortInUse, SettingsError

PROBE_SECONDS = 2.0
"""How long a port may stay taken by the processes of an instance that was killed a moment ago."""


def probe(host: str, port: int) -> None:
    """Make sure that nobody listens on the port.

    Raises:
        PortInUse: somebody does.
        SettingsError: the host is not an address of this machine, or the port needs privileges.
    """
    until = time.monotonic() + PROBE_SECONDS
    while True:
        try:
            _bind(host, port, share=False).close()
        except PortInUse:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)
        else:
            return


def reserve(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen: keeps the port, also one that the kernel chose for port 0."""
    if port:
        probe(host, port)
    return _bind(host, port, share=True)


def shared_socket(host: str, port: int) -> socket.socket:
    """A bound socket for one process of several on the same port."""
    return _bind(host, port, share=True)


def _bind(host: str, port: int, *, share: bool) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise SettingsError("PULSETRAIL_HOST", repr(host), "an address of this machine") from None
    # "localhost" may stand for both families; IPv4 is what a newcomer types.
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host, port) from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise SettingsError("PULSETRAIL_HOST", repr(host), "an address of this machine") from None
        if error.errno == errno.EACCES:
            raise SettingsError("PULSETRAIL_PORT", str(port), "1024 or more without privileges") from None
        raise
    return bound
