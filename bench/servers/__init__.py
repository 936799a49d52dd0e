"""The servers that compete, each started as a process of its own and spoken to over sockets."""

from __future__ import annotations

from bench.servers.nchan import Nchan
from bench.servers.plain import PlainFastApi
from bench.servers.pulsetrail import Pulsetrail
from bench.servers.raw import RawC, RawPython
from bench.servers.server import Server
from bench.servers.ws import Ws

__all__ = ["Nchan", "PlainFastApi", "Pulsetrail", "RawC", "RawPython", "Server", "Ws"]
