"""How the command line reaches a running proxy: one line of JSON each way on a loopback port.

A page in a browser can open connections to loopback and send what it likes after the request line that its browser
writes. That line is no JSON, and a connection whose first line is none is closed before anything else is read: a page
can neither give orders nor read what the proxy says. Other users of the machine can, as they can use the proxy.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from pulsetrail.chaos.director import Director, InForce
from pulsetrail.chaos.faults import KINDS, DurationMs, Fault
from pulsetrail.chaos.proxy import Address, Proxy
from pulsetrail.chaos.recorder import Recorder
from pulsetrail.errors import ChaosUnreachable, PortInUse

MAX_LINE: Final = 4096
PATIENCE_SECONDS: Final = 5.0


class Apply(Struct, frozen=True, tag_field="do", tag="apply"):
    """Put a fault in force."""

    fault: Fault
    for_ms: DurationMs | None = None


class Lift(Struct, frozen=True, tag_field="do", tag="lift"):
    """End a fault by its name, or all."""

    fault: Annotated[str, Meta(max_length=32)] | None = None


class Ask(Struct, frozen=True, tag_field="do", tag="status"):
    """Only look."""


class Status(Struct, frozen=True):
    """A proxy as it stands."""

    listen: str
    target: str
    page_id: str | None
    """What it is called in the log, if it records."""
    accepted: int
    """Connections since it started."""
    connections: int
    """Those that are open."""
    heartbeats_dropped: int
    faults: list[InForce]
    recorded: int
    """Changes that the collector has."""
    waiting: int
    """Changes that it does not have yet."""
    lost: int
    """Changes that it will not have."""


class Reply(Struct, frozen=True):
    """What the proxy answers: what it did, in words, and how it stands now; or why it did nothing."""

    did: str = ""
    status: Status | None = None
    error: str | None = None


decode_order: Final = msgspec.json.Decoder(Apply | Lift | Ask).decode
_decode_reply: Final = msgspec.json.Decoder(Reply).decode
_encode: Final = msgspec.json.Encoder().encode


class Control:
    """Takes orders for one proxy."""

    def __init__(self, proxy: Proxy, director: Director, recorder: Recorder | None) -> None:
        self.address = Address("", 0)
        self._proxy = proxy
        self._director = director
        self._recorder = recorder

    @asynccontextmanager
    async def listening(self, address: Address) -> AsyncIterator[Control]:
        """Take orders while the context lasts.

        Raises:
            PortInUse: somebody else listens there.
        """
        try:
            server = await asyncio.start_server(self._serve, address.host, address.port, limit=MAX_LINE)
        except OSError:
            raise PortInUse(address.host, address.port, option="--control") from None
        self.address = Address(address.host, server.sockets[0].getsockname()[1])
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                with contextlib.suppress(ValueError):  # a line that is too long is no order
                    reply = self._obey(await reader.readline())
                    if reply is not None:
                        writer.write(_encode(reply) + b"\n")
                        await writer.drain()
        except (OSError, TimeoutError):
            pass  # whoever it was, they are gone or not talking
        finally:
            writer.close()

    def _obey(self, line: bytes) -> Reply | None:
        if not line.startswith(b"{"):
            return None
        try:
            order = decode_order(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return Reply(error=f"That is no order: {error}.")
        match order:
            case Apply(fault=fault, for_ms=for_ms):
                did = self._director.apply(fault, for_ms)
            case Lift(fault=None):
                lifted = self._director.lift()
                did = f"Lifted: {', '.join(lifted)}." if lifted else "Nothing was in force."
            case Lift(fault=str(kind)) if kind not in KINDS:
                return Reply(error=f"There is no fault {kind!r}; there are {', '.join(KINDS)}.")
            case Lift(fault=kind):
                did = f"Lifted: {kind}." if self._director.lift(kind) else f"{kind} was not in force."
            case Ask():
                did = ""
        return Reply(did=did, status=self.status())

    def status(self) -> Status:
        """How the proxy stands."""
        recorder = self._recorder
        return Status(
            listen=str(self._proxy.address),
            target=str(self._proxy.target),
            page_id=recorder.page_id if recorder else None,
            accepted=self._proxy.accepted,
            connections=len(self._proxy.links),
            heartbeats_dropped=self._proxy.heartbeats_dropped,
            faults=self._director.in_force(),
            recorded=recorder.recorded if recorder else 0,
            waiting=recorder.waiting if recorder else 0,
            lost=recorder.lost if recorder else 0,
        )


async def give(address: Address, order: Apply | Lift | Ask) -> Reply:
    """Give an order to the proxy that is controlled there.

    Raises:
        ChaosUnreachable: nobody answers, or not as a proxy would.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(address.host, address.port, limit=1 << 20)
            try:
                writer.write(_encode(order) + b"\n")
                return _decode_reply(await reader.readline())
            finally:
                writer.close()
    except TimeoutError:
        raise ChaosUnreachable(str(address), "no answer") from None
    except OSError as error:
        raise ChaosUnreachable(str(address), os.strerror(error.errno or 0).lower()) from None
    except (msgspec.DecodeError, ValueError):
        raise ChaosUnreachable(str(address), "somebody else answers there") from None
