"""Orders are obeyed or answered in a sentence; a page in a browser cannot give any."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest
from chaos_lab import Lab, Peer

from pulsetrail.chaos.control import Apply, Ask, Control, Lift, give
from pulsetrail.chaos.faults import Latency
from pulsetrail.chaos.proxy import Address
from pulsetrail.errors import ChaosUnreachable, PortInUse

LOOPBACK = Address("127.0.0.1", 0)


@pytest.fixture
async def control(lab: Lab) -> AsyncIterator[Control]:
    async with Control(lab.proxy, lab.director, None).listening(LOOPBACK) as running:
        yield running


async def said(control: Control, text: bytes) -> bytes:
    """What comes back for these bytes until the proxy hangs up."""
    peer = Peer(*await asyncio.open_connection(control.address.host, control.address.port))
    try:
        await peer.say(text)
        async with asyncio.timeout(5):
            return await peer.reader.read()
    finally:
        await peer.leave()


async def test_orders_are_obeyed_and_answered_with_how_it_stands(control: Control) -> None:
    reply = await give(control.address, Apply(Latency(800, 300), 60_000))
    assert reply.did == "Applied for 60 s: deliver 800±300 ms late, 0 open connections."
    assert reply.status is not None
    assert [entry.fault for entry in reply.status.faults] == ["latency"]
    assert (await give(control.address, Lift("latency"))).did == "Lifted: latency."
    assert (await give(control.address, Lift("latency"))).did == "latency was not in force."
    assert (await give(control.address, Lift())).did == "Nothing was in force."
    assert "no fault 'lateness'" in str((await give(control.address, Lift("lateness"))).error)
    assert (await give(control.address, Ask())).error is None


ORDER = b'{"do":"apply","fault":{"fault":"refuse"}}'


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 41\r\n\r\n" + ORDER + b"\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n" + ORDER + b"\n",
        b"OPTIONS / HTTP/1.1\n" + ORDER + b"\n",
        b"\n" + ORDER + b"\n",
        b"\x16\x03\x01\x02\x00\x01\n" + ORDER + b"\n",
    ],
    ids=["post", "websocket", "preflight", "empty line", "tls"],
)
async def test_what_a_browser_can_send_is_no_order_and_gets_no_answer(
    lab: Lab, control: Control, request_head: bytes
) -> None:
    with contextlib.suppress(ConnectionResetError):  # it hung up before it had read everything
        assert await said(control, request_head) == b""
    assert lab.director.in_force() == []
    assert lab.changes == []


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"do":"explode"}',
        b'{"do":"apply"}',
        b'{"do":"apply","fault":{"fault":"latency","delay_ms":-4}}',
        b'{"do":"apply","fault":{"fault":"latency","delay_ms":1e99}}',
        b'{"do":"apply","fault":{"fault":"http","status":200}}',
        b'{"do":"apply","fault":{"fault":"bandwidth","bytes_per_second":0}}',
        b'{"do":"apply","fault":{"fault":"refuse"},"for_ms":0}',
        b'{"do":"lift","fault":' + b"[" * 2_000,
        b'{"do":"lift","fault":"\xff"}',
    ],
    ids=range(10),
)
async def test_an_order_that_is_none_is_answered_with_the_reason(lab: Lab, control: Control, line: bytes) -> None:
    answer = msgspec.json.decode(await said(control, line + b"\n"))
    assert answer["error"].startswith("That is no order: ")
    assert lab.changes == []


async def test_a_line_without_end_is_cut_off(control: Control) -> None:
    with contextlib.suppress(ConnectionResetError):
        assert await said(control, b"{" * 100_000) == b""


async def test_a_taken_control_port_is_said_in_a_sentence(lab: Lab, control: Control) -> None:
    with pytest.raises(PortInUse, match="choose one with --control"):
        async with Control(lab.proxy, lab.director, None).listening(control.address):
            pass


async def test_whoever_is_no_proxy_is_named(lab: Lab) -> None:
    with pytest.raises(ChaosUnreachable, match=r"takes orders at 127\.0\.0\.1:9 \(connection refused\)"):
        await give(Address("127.0.0.1", 9), Ask())
    giving = asyncio.create_task(give(lab.proxy.address, Ask()))
    server = await lab.arrival()
    await server.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    with pytest.raises(ChaosUnreachable, match="somebody else answers there"):
        await giving
