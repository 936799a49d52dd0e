"""Each fault does what it says to real connections, and they are whole again when it is lifted."""

from __future__ import annotations

import asyncio
import time

import pytest
from chaos_lab import Lab, Peer
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import InvalidHandshake, InvalidStatus

from pulsetrail.chaos.faults import (
    Bandwidth,
    Blackhole,
    Direction,
    DropHeartbeats,
    Fault,
    Fin,
    Flap,
    Http,
    Latency,
    Monkey,
    Refuse,
    Reset,
)
from pulsetrail.chaos.links import reset_when_closed
from pulsetrail.chaos.proxy import Address, Proxy
from pulsetrail.errors import PortInUse


async def works(client: Peer, server: Peer) -> bool:
    await client.say(b"ping")
    await server.say(b"pong")
    return (await server.hear(4), await client.hear(4)) == (b"ping", b"pong")


async def test_without_a_fault_bytes_pass_both_ways_and_in_bulk(lab: Lab) -> None:
    client, server = await lab.pair()
    assert await works(client, server)
    bulk = bytes(range(256)) * 20_000
    sending = asyncio.create_task(server.say(bulk))
    assert await client.hear(len(bulk)) == bulk
    await sending


async def test_a_half_closed_connection_stays_half_closed(lab: Lab) -> None:
    client, server = await lab.pair()
    client.writer.write_eof()
    assert await server.end() == "fin"
    await server.say(b"late")
    assert await client.hear(4) == b"late"
    server.writer.close()
    assert await client.end() == "fin"
    async with asyncio.timeout(5):
        while lab.proxy.links:
            await asyncio.sleep(0.01)


async def test_a_reset_of_one_side_reaches_the_other_as_a_reset(lab: Lab) -> None:
    client, server = await lab.pair()
    reset_when_closed(client.writer.get_extra_info("socket"))
    await client.leave()
    assert await server.end() == "reset"


async def test_refuse_turns_newcomers_away_and_keeps_who_is_there(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.director.apply(Refuse(), None)
    await asyncio.sleep(0.05)
    with pytest.raises(ConnectionRefusedError):
        await lab.client()
    assert await works(client, server)
    lab.director.lift("refuse")
    assert await works(*await lab.pair())


async def test_nobody_else_gets_the_port_while_it_refuses(lab: Lab) -> None:
    lab.director.apply(Refuse(), None)
    await asyncio.sleep(0.05)
    with pytest.raises(PortInUse, match="choose one with --listen"):
        async with Proxy(lab.proxy.target).listening(lab.proxy.address):
            pass


@pytest.mark.parametrize(("fault", "end"), [(Reset(), "reset"), (Fin(), "fin")], ids=["reset", "fin"])
async def test_an_end_is_seen_by_both_sides_and_happens_once(lab: Lab, fault: Reset | Fin, end: str) -> None:
    pairs = [await lab.pair() for _ in range(5)]
    await pairs[0][0].say(b"unread")
    lab.director.apply(fault, None)
    for client, server in pairs:
        assert (await client.end(), await server.end()) == (end, end)
    assert lab.director.in_force() == []
    assert await works(*await lab.pair())


@pytest.mark.parametrize(("fault", "end"), [(Reset(), "reset"), (Fin(), "fin")], ids=["reset", "fin"])
async def test_an_end_that_lasts_awaits_newcomers_too(lab: Lab, fault: Reset | Fin, end: str) -> None:
    lab.director.apply(fault, 60_000)
    newcomer = await lab.client()
    assert await newcomer.end() == end
    assert await lab.arrivals_within(0.05) == 0, "it never reaches the server"
    lab.director.lift()
    assert await works(*await lab.pair())


async def test_a_blackhole_lets_nothing_through_and_both_sides_stay_open(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.director.apply(Blackhole(), None)
    await client.say(b"up")
    await server.say(b"down")
    newcomer = await lab.client()
    await newcomer.say(b"hello?")
    silent = await asyncio.gather(*(peer.hears_nothing(0.4) for peer in (client, server, newcomer)))
    assert silent == [True, True, True]
    lab.director.lift()
    assert (await server.hear(2), await client.hear(4)) == (b"up", b"down"), "as after a repaired link"


@pytest.mark.parametrize("direction", [Direction.UP, Direction.DOWN])
async def test_a_blackhole_of_one_direction_leaves_the_other(lab: Lab, direction: Direction) -> None:
    client, server = await lab.pair()
    lab.director.apply(Blackhole(direction), None)
    stuck, moving = (client, server) if direction is Direction.UP else (server, client)
    await moving.say(b"through")
    assert await stuck.hear(7) == b"through"
    await stuck.say(b"lost")
    assert await moving.hears_nothing(0.3)


@pytest.mark.parametrize("way", ["fin", "reset"])
async def test_who_leaves_during_a_blackhole_is_still_there_for_the_other_side(lab: Lab, way: str) -> None:
    client, server = await lab.pair()
    lab.director.apply(Blackhole(), None)
    if way == "reset":
        reset_when_closed(client.writer.get_extra_info("socket"))
    await client.leave()
    await server.say(b"anybody?")
    assert await server.hears_nothing(0.3), "half-open"
    lab.director.lift()
    assert await server.end() in (way, "reset")  # what was on its way to somebody who left is answered with a reset


async def test_latency_delays_each_direction_and_keeps_the_order(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.director.apply(Latency(300, 200), None)
    begun = time.monotonic()
    for number in range(20):
        await client.say(b"%02d" % number)
        await asyncio.sleep(0.01)
    assert await server.hear(2) == b"00"
    first = time.monotonic() - begun
    assert await server.hear(38) == b"".join(b"%02d" % number for number in range(1, 20))
    assert 0.1 <= first <= 0.7
    lab.director.apply(Latency(300, 0, Direction.DOWN), None)
    begun = time.monotonic()
    await client.say(b"up")
    await server.hear(2)
    assert time.monotonic() - begun < 0.2
    await server.say(b"down")
    await client.hear(4)
    assert time.monotonic() - begun >= 0.3


async def test_bandwidth_lets_so_many_bytes_through(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.director.apply(Bandwidth(20_000, Direction.DOWN), None)
    begun = time.monotonic()
    sending = asyncio.create_task(server.say(b"x" * 20_000))
    await client.hear(20_000, patience=10)
    assert 0.8 <= time.monotonic() - begun <= 2.5
    await sending


async def test_a_narrow_link_makes_the_sender_wait(lab: Lab) -> None:
    _, server = await lab.pair()
    lab.director.apply(Bandwidth(1_000, Direction.DOWN), None)
    server.writer.transport.set_write_buffer_limits(high=0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await server.say(b"x" * (32 << 20))


async def heartbeating(socket: ServerConnection) -> None:
    for number in range(1_000):
        await socket.send(f'{{"type":"heartbeat","seq":{number}}}')
        await socket.send(f'{{"type":"update","stream_position":{number}}}')
        await asyncio.sleep(0.01)


async def test_heartbeats_vanish_and_everything_else_arrives_in_order() -> None:
    async with serve(heartbeating, "127.0.0.1", 0, compression=None) as server:
        proxy = Proxy(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
        async with proxy.listening(Address("127.0.0.1", 0)), connect(f"ws://{proxy.address}") as client:
            assert "heartbeat" in str(await client.recv())
            proxy.begin(DropHeartbeats(), lasts=True)
            seen = [str(await client.recv()) for _ in range(60)][10:]
            assert not any("heartbeat" in message for message in seen)
            positions = [int(message.rpartition(":")[2].rstrip("}")) for message in seen]
            assert positions == list(range(positions[0], positions[0] + 50))
            proxy.end(DropHeartbeats())
            assert any(["heartbeat" in str(await client.recv()) for _ in range(20)])
            assert proxy.heartbeats_dropped >= 50


async def status_of(address: Address, *headers: str) -> str:
    peer = Peer(*await asyncio.open_connection(address.host, address.port))
    try:
        await peer.say("\r\n".join(("GET / HTTP/1.1", f"Host: {address}", *headers, "", "")).encode())
        async with asyncio.timeout(5):
            return (await peer.reader.readline()).decode().strip()
    finally:
        await peer.leave()


async def test_http_answers_in_the_place_of_the_server(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.director.apply(Http(503), None)
    assert await client.end() == "fin", "a kept-alive connection would carry the next request past the fault"
    assert await server.end() == "fin"
    assert await status_of(lab.proxy.address) == "HTTP/1.1 503 Service Unavailable"
    with pytest.raises(InvalidStatus, match="503"):
        await connect(f"ws://{lab.proxy.address}")
    assert await lab.arrivals_within(0.05) == 0


async def hello(socket: ServerConnection) -> None:
    await socket.send("hello")
    await socket.wait_closed()


async def test_http_for_upgrades_only_lets_other_requests_pass_and_open_sockets_live() -> None:
    async with serve(hello, "127.0.0.1", 0) as server:
        proxy = Proxy(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
        async with proxy.listening(Address("127.0.0.1", 0)), connect(f"ws://{proxy.address}") as client:
            assert await client.recv() == "hello"
            proxy.begin(Http(502, upgrades_only=True), lasts=True)
            with pytest.raises(InvalidHandshake):
                await connect(f"ws://{proxy.address}")
            answer = await status_of(proxy.address)
            assert "426" in answer, "the server's own answer to a request without an upgrade"
            await client.ping()
            proxy.begin(Http(503), lasts=True)
            async with asyncio.timeout(5):
                await (await client.ping())


async def test_flap_goes_down_and_up_again_and_ends_up(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.director.apply(Flap(300, 300), 1_000)
    assert (await client.end(), await server.end()) == ("reset", "reset")
    with pytest.raises(ConnectionRefusedError):
        await lab.client()
    await asyncio.sleep(0.4)
    client, server = await lab.pair()
    assert await client.end() == "reset", "down again"
    await asyncio.sleep(0.6)
    assert lab.director.in_force() == []
    assert await works(*await lab.pair())
    told = [(change["type"].removeprefix("chaos."), change["fault"]) for change in lab.changes]
    assert told == [
        ("applied", "flap"),
        *[("applied", "reset"), ("applied", "refuse"), ("lifted", "refuse")] * 2,
        ("lifted", "flap"),
    ]


async def test_a_monkey_that_is_lifted_leaves_nothing_in_force(lab: Lab) -> None:
    lab.director.apply(Monkey(7), None)
    await asyncio.sleep(0.1)
    assert {entry.fault for entry in lab.director.in_force()} > {"monkey"}
    lab.director.lift("monkey")
    await asyncio.sleep(0.1)
    assert lab.director.in_force() == []
    assert await works(*await lab.pair())


async def test_a_fault_ends_by_itself_and_faults_of_different_kinds_go_together(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.director.apply(Latency(100), 400)
    lab.director.apply(Bandwidth(1_000_000), None)
    shown = {entry.fault: entry.left_ms for entry in lab.director.in_force()}
    assert shown.keys() == {"latency", "bandwidth"}
    assert 0 < (shown["latency"] or 0) <= 400
    await asyncio.sleep(0.5)
    assert [entry.fault for entry in lab.director.in_force()] == ["bandwidth"]
    assert await works(client, server)


async def test_a_fault_of_a_kind_replaces_the_one_before(lab: Lab) -> None:
    client, server = await lab.pair()
    lab.director.apply(Blackhole(Direction.UP), None)
    lab.director.apply(Blackhole(Direction.DOWN), None)
    await client.say(b"up")
    assert await server.hear(2) == b"up"
    assert [change["type"] for change in lab.changes] == ["chaos.applied", "chaos.lifted", "chaos.applied"]


async def test_who_comes_while_the_server_is_away_is_reset() -> None:
    with_nobody = Address("127.0.0.1", 9)
    proxy = Proxy(with_nobody)
    async with proxy.listening(Address("127.0.0.1", 0)):
        client = Peer(*await asyncio.open_connection(proxy.address.host, proxy.address.port))
        assert await client.end() == "reset"
        await client.leave()


@pytest.mark.parametrize("fault", [Blackhole(), Latency(500), Bandwidth(10)], ids=["blackhole", "latency", "bandwidth"])
async def test_the_proxy_stops_though_a_fault_is_in_force(lab: Lab, fault: Fault) -> None:
    async with asyncio.timeout(5):
        async with Proxy(lab.proxy.target).listening(Address("127.0.0.1", 0)) as other:
            other.begin(fault, lasts=True)
            client = Peer(*await asyncio.open_connection(other.address.host, other.address.port))
            await client.say(b"x" * 1_000)
            await lab.arrival()
        assert await client.end() in ("fin", "reset")
        await client.leave()
