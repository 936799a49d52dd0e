"""Heartbeats, misses, stale and idle connections, over real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from gateway_runner import Start, receive
from websockets.exceptions import ConnectionClosed


async def test_a_client_that_knows_only_the_two_fixed_messages_is_served(gateway: Start) -> None:
    async with gateway(heartbeat_interval=0.3, idle_timeout=1.0) as running, running.client() as client:
        welcome = await receive(client, "welcome")
        for _ in range(6):  # longer than the idle timeout
            await receive(client, "heartbeat")
            await client.send('{"type":"pong"}')
        await client.close()
        await running.end_of(welcome["connection"])
        names = [event.event_type for event in await running.events(welcome["connection"])]
        assert "heartbeat.missed" not in names


async def test_a_heartbeat_carries_a_sequence_the_time_and_the_position_of_the_stream(gateway: Start) -> None:
    async with gateway(heartbeat_interval=0.3) as running, running.client() as client:
        await receive(client, "welcome")
        await running.gateway.broadcaster.publish("t", 1)
        await receive(client, "update")
        first, second = await receive(client, "heartbeat"), await receive(client, "heartbeat")
        assert second["seq"] > first["seq"]
        assert second["time"] > first["time"] > 1_700_000_000_000
        assert first["stream_position"] == 1


async def test_a_pong_with_times_gives_round_trip_and_clock_offset(gateway: Start) -> None:
    async with gateway(heartbeat_interval=0.3) as running, running.client() as client:
        welcome = await receive(client, "welcome")
        for _ in range(3):
            beat = await receive(client, "heartbeat")
            # This client's clock is an hour behind the server's.
            now = beat["time"] - 3_600_000
            await client.send(json.dumps({"type": "pong", "seq": beat["seq"], "received": now, "sent": now}))
        await client.send('{"type":"probe","id":0}')
        await receive(client, "probe_ok")
        await client.close()
        _, payload = await running.event("latency.sampled", welcome["connection"])
        assert payload["count"] == 3 == sum(payload["buckets"])
        assert 0 < payload["min_us"] < 1_000_000
        assert abs(payload["clock_offset_ms"] - 3_600_000) < 1000


async def test_a_page_that_sleeps_is_told_from_a_client_that_is_stopped(gateway: Start) -> None:
    """A stock client's library answers the WebSocket ping for a page that says nothing."""
    async with gateway(heartbeat_interval=0.4, idle_timeout=2.0) as running, running.client() as client:
        welcome = await receive(client, "welcome")
        missed, payload = await running.event("heartbeat.missed", welcome["connection"])
        assert missed.connection_seq == 2
        assert payload["misses"] == 1
        assert payload["layers"] == {"kernel": True, "ping": True}, (
            "the kernel and the library answer, the page does not"
        )
        assert payload["ping_rtt_us"] < 1_000_000
        assert payload["tcp"]["unacked"] == 0
        _, stale = await running.event("connection.stale", welcome["connection"])
        assert stale["misses"] == 2
        assert stale["dead_path"] is False
        event, closed = await running.end_of(welcome["connection"])
        assert (event.reason, event.close_code) == ("idle_timeout", 4201)
        assert closed["initiator"] == "server"
        assert closed["evidence"]["layers"] == {"kernel": True, "ping": True}
        assert closed["evidence"]["misses"] >= 2
        with pytest.raises(ConnectionClosed) as caught:
            await receive(client, "nothing of this name")
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 4201


async def test_an_answer_after_a_miss_is_a_recovery_and_the_numbers_have_no_hole(gateway: Start) -> None:
    async with gateway(heartbeat_interval=0.4, idle_timeout=30.0) as running, running.client() as client:
        welcome = await receive(client, "welcome")
        await running.event("connection.stale", welcome["connection"])
        await client.send('{"type":"pong"}')
        _, payload = await running.event("heartbeat.recovered", welcome["connection"])
        assert payload["misses"] >= 2
        await client.close()
        await running.end_of(welcome["connection"])
        events = await running.events(welcome["connection"])
        numbers = [event.connection_seq for event in events if event.connection_seq is not None]
        assert numbers == list(range(1, len(numbers) + 1))
        assert events[0].event_type == "connection.opened"
        assert events[-1].event_type == "connection.closed"


async def test_heartbeats_are_spread_over_clients_that_came_at_once(gateway: Start) -> None:
    async with gateway(heartbeat_interval=1.0) as running:
        clients = [await running.client() for _ in range(20)]
        arrivals: list[float] = []

        async def first_beat(client: object) -> None:
            await receive(client, "heartbeat")  # type: ignore[arg-type]  # a client of the list above
            arrivals.append(asyncio.get_running_loop().time())

        await asyncio.gather(*(first_beat(client) for client in clients))
        assert max(arrivals) - min(arrivals) > 0.5, "all at once would be a storm every 30 s"
        for client in clients:
            await client.close()
