"""Handshakes over real sockets: what is recorded, who is let in, who resumes."""

from __future__ import annotations

import asyncio
import json
import time
from uuid import UUID

import httpx
import jwt
import pytest
from gateway_runner import KEY, Running, Start, receive
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from pulsetrail.identity import client_ref, shard_of
from pulsetrail.log.memory import MemoryLog

JWT_KEY = "j" * 32


def token(seconds: float, subject: str = "ann") -> str:
    return jwt.encode({"sub": subject, "exp": time.time() + seconds}, JWT_KEY, "HS256")


async def refusal(running: Running, **options: object) -> tuple[int | None, dict[str, object] | None]:
    """The code with which a handshake was closed at once, and the hint before it."""
    hint = None
    async with running.client(**options) as client:  # type: ignore[arg-type]  # options of connect()
        try:
            hint = await receive(client, "go_away")
            await receive(client, "nothing of this name")
        except ConnectionClosed:
            pass
        return client.close_code, hint


async def test_an_opened_connection_is_recorded_with_who_and_where_and_how_it_came(gateway: Start) -> None:
    previous = "018f3a5e-7c3d-7b6a-9f0e-1234567890ab"
    query = "client=ann&page=p-1&app=dash&release=1.2"
    query += f"&prev={previous}&prev_code=4100&attempt=2&backoff_ms=3000&cause=peer_reset"
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/125.0.0.0 Safari/537.36"
    async with gateway() as running, running.client(query, user_agent_header=agent) as client:
        welcome = await receive(client, "welcome")
        event, payload = await running.event("connection.opened", welcome["connection"])
        ref = client_ref(KEY, "ann")
        assert (event.client_ref, event.shard, event.page_id) == (ref, shard_of(ref, 4), "p-1")
        assert event.connection_seq == 1
        assert payload["address_prefix"] == "127.0.0.0/24"
        assert (payload["app"], payload["release"]) == ("dash", "1.2")
        assert (payload["browser"], payload["os"], payload["device"]) == ("chrome", "linux", "desktop")
        assert payload["previous"] == {
            "connection": previous,
            "code": 4100,
            "cause": "peer_reset",
            "attempt": 2,
            "backoff_ms": 3000,
        }
        assert "ann" not in str(await running.events()), "the client's own id is nowhere in the log"


async def test_the_welcome_is_first_and_says_everything_a_client_needs(gateway: Start) -> None:
    async with gateway() as running, running.client() as client:
        welcome = await receive(client, "welcome")
        assert UUID(welcome["connection"]).version == 7
        assert UUID(welcome["client"]), "a client without an id is given one"
        assert (welcome["stream_position"], welcome["resumed"]) == (0, False)
        assert (welcome["heartbeat_ms"], welcome["miss_limit"]) == (30_000, 2)
        assert abs(welcome["time"] - time.time() * 1000) < 5000


async def test_the_subprotocol_is_agreed_on_and_may_be_left_out(gateway: Start) -> None:
    async with gateway() as running:
        async with running.client(subprotocols=[Subprotocol("pulsetrail.v1")]) as client:
            assert client.subprotocol == "pulsetrail.v1"
        async with running.client() as client:
            assert client.subprotocol is None


async def test_a_client_that_comes_back_gets_exactly_what_it_missed(gateway: Start) -> None:
    async with gateway(updates_ring=10) as running:
        publish = running.gateway.broadcaster.publish
        async with running.client() as client:
            welcome = await receive(client, "welcome")
            epoch = welcome["stream_epoch"]
            await publish("t", 1)
            assert (await receive(client, "update"))["stream_position"] == 1
        for number in range(2, 6):
            await publish("t", number)
        async with running.client(f"since=1&since_epoch={epoch}") as client:
            welcome = await receive(client, "welcome")
            assert (welcome["resumed"], welcome["stream_position"]) == (True, 5)
            assert [(await receive(client, "update"))["data"] for _ in range(4)] == [2, 3, 4, 5]
        for number in range(6, 20):
            await publish("t", number)
        await asyncio.sleep(0.05)
        async with running.client(f"since=1&since_epoch={epoch}") as client:
            welcome = await receive(client, "welcome")
            assert (welcome["resumed"], welcome["stream_position"]) == (False, 19), "too old: never a part of it"
        async with running.client("since=1&since_epoch=another") as client:
            assert (await receive(client, "welcome"))["resumed"] is False


async def test_a_foreign_origin_gets_403_and_is_on_record(gateway: Start) -> None:
    async with gateway() as running:
        with pytest.raises(InvalidStatus) as caught:
            await running.client(origin=Origin("https://evil.example"))
        assert caught.value.response.status_code == 403
        event, payload = await running.event("handshake.rejected")
        assert (event.reason, payload["status"], payload["origin"]) == ("forbidden", 403, "https://evil.example")


async def test_a_page_reads_from_the_close_code_that_it_came_too_often(gateway: Start) -> None:
    async with gateway(handshake_rate_per_address="2/minute") as running:
        for _ in range(2):
            async with running.client() as client:
                await receive(client, "welcome")
        code, hint = await refusal(running)
        assert code == 4205
        assert hint is not None
        assert isinstance(hint["retry_after_ms"], int)
        assert hint["retry_after_ms"] > 0
        with pytest.raises(InvalidStatus) as caught:
            for _ in range(5):
                await refusal(running)
        assert caught.value.response.status_code == 429
        assert int(caught.value.response.headers["Retry-After"]) > 0


async def test_the_limit_of_connections_has_its_own_code(gateway: Start) -> None:
    async with gateway(max_connections=1) as running:
        async with running.client() as client:
            await receive(client, "welcome")
            assert (await refusal(running))[0] == 4502
        await running.event("connection.closed")
        async with running.client() as client:
            await receive(client, "welcome")


async def test_refusals_above_a_rate_are_summed_up_and_none_is_forgotten(gateway: Start) -> None:
    async with gateway(heartbeat_interval=1.0) as running:
        for _ in range(60):
            with pytest.raises(InvalidStatus):
                await running.client(origin=Origin("https://evil.example"))

        async def on_record() -> list[int]:
            return [
                int(payload["count"]) if "count" in payload else 1
                for event in await running.events()
                if event.event_type == "handshake.rejected"
                for payload in [json.loads(event.payload)]
            ]

        async with asyncio.timeout(10):
            while sum(await on_record()) < 60:
                await asyncio.sleep(0.05)
        counts = await on_record()
        assert sum(counts) == 60
        assert len(counts) < 60


async def test_a_token_lets_in_and_its_end_is_enforced_unless_it_is_renewed(gateway: Start) -> None:
    async with gateway(auth_mode="jwt", jwt_key=JWT_KEY) as running:
        assert (await refusal(running))[0] == 4500
        assert (await refusal(running, subprotocols=[Subprotocol("bearer.nonsense")]))[0] == 4500
        credentials = {"Authorization": f"Bearer {token(1.5)}"}
        async with (
            running.client(additional_headers=credentials) as lapses,
            running.client(additional_headers=credentials) as renews,
        ):
            await receive(lapses, "welcome")
            await receive(renews, "welcome")
            await renews.send(f'{{"type":"token","token":"{token(60)}"}}')
            with pytest.raises(ConnectionClosed):
                await receive(lapses, "nothing of this name")
            assert lapses.close_code == 4204
            await renews.send('{"type":"probe","id":7}')
            assert (await receive(renews, "probe_ok"))["id"] == 7
            await renews.send('{"type":"token","token":"nonsense"}')
            with pytest.raises(ConnectionClosed):
                await receive(renews, "nothing of this name")
            assert renews.close_code == 4500


async def test_a_ticket_is_bought_with_a_token_and_is_good_once(gateway: Start) -> None:
    async with gateway(auth_mode="ticket", jwt_key=JWT_KEY) as running, httpx.AsyncClient() as http:
        assert (await http.post(f"{running.http}/v1/tickets")).status_code == 401
        bought = await http.post(f"{running.http}/v1/tickets", headers={"Authorization": f"Bearer {token(60)}"})
        assert bought.status_code == 200
        offered = [Subprotocol("pulsetrail.v1"), Subprotocol(f"ticket.{bought.json()['ticket']}")]
        async with running.client(subprotocols=offered) as client:
            await receive(client, "welcome")
            assert client.subprotocol == "pulsetrail.v1"
        assert (await refusal(running, subprotocols=offered))[0] == 4500


async def test_a_fenced_node_closes_its_sockets_and_begins_a_new_epoch(gateway: Start) -> None:
    log = MemoryLog(shards=4, key=KEY)
    async with gateway(log=log, node_lease=1.0) as running, running.client() as client:
        await receive(client, "welcome")
        recorder = running.gateway.recorder
        fenced = recorder.epoch
        await log.renew_lease("node-0", fenced, 0.0)
        while not await log.fence_expired():
            await log.renew_lease("node-0", fenced, 0.0)
        await receive(client, "go_away")
        with pytest.raises(ConnectionClosed):
            await receive(client, "nothing of this name")
        assert client.close_code == 4203
        assert recorder.epoch > fenced
        late, payload = await running.event("connection.end_reported_late")
        assert late.node_epoch == fenced
        assert payload["reported_as"] == "connection.closed"
        async with running.client() as back:
            welcome = await receive(back, "welcome")
            opened, _ = await running.event("connection.opened", welcome["connection"])
            assert opened.node_epoch == recorder.epoch


async def test_unknown_messages_and_fields_are_ignored_and_counted(gateway: Start) -> None:
    async with gateway() as running, running.client() as client:
        await receive(client, "welcome")
        await client.send('{"type":"dance","partner":1}')
        await client.send('{"type":"pong","seq":"seven"}')
        await client.send('{"no":"type"}')
        await client.send('{"type":"probe","id":{"deep":true},"extra":[1]}')
        assert (await receive(client, "probe_ok"))["id"] is None
        assert running.gateway.hub.messages_ignored == 3
