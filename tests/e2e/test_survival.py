"""What the service survives, by the clients' own records."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from typing import Any

import httpx
from service_runner import Service
from websockets.asyncio.client import ClientConnection, connect

from conftest import Private

CONNECTIONS = 200
OUTAGE = 32.0
"""Seconds that Postgres is away: many leases of these tests, and longer than every deadline that a statement or a
connection has, so that all of them are made anew afterwards."""


async def opened(service: Service, client_id: str) -> tuple[ClientConnection, str]:
    """A client that was welcomed, and its connection's id."""
    client = await connect(f"{service.ws}?client={client_id}", ping_interval=None, max_queue=1024)
    welcome = json.loads(await client.recv())
    assert welcome["type"] == "welcome"
    return client, welcome["connection"]


async def answer(client: ClientConnection) -> None:
    """Answer heartbeats until the socket ends."""
    async for message in client:
        if '"heartbeat"' in str(message):
            await client.send('{"type":"pong"}')


def telemetry(page: str, seq: int) -> dict[str, Any]:
    wall = time.time() * 1000
    return {
        "schema": 1,
        "batch_id": f"{page}-{seq}",
        "batch_seq": seq,
        "session_id": "s",
        "page_id": page,
        "client_id": f"client-of-{page}",
        "sdk": "test/1",
        "app": "test",
        "sent_wall": wall,
        "sent_mono": seq,
        "events": [{"seq": seq, "type": "page.visible", "wall": wall, "mono": seq}],
    }


async def ends(service: Service, *, expected: int) -> dict[str, Counter[str]]:
    """Per connection, how often it was opened and ended, once ``expected`` ends are in the log."""
    async with asyncio.timeout(60):
        while True:
            lines = (await asyncio.to_thread(service.run, "tail", "--no-follow", "--limit", "100000", "--json")).stdout
            found: dict[str, Counter[str]] = {}
            for line in lines.splitlines():
                event = json.loads(line)
                if event["event_type"] in ("connection.opened", "connection.closed", "connection.lost"):
                    kind = "opened" if event["event_type"] == "connection.opened" else "ended"
                    found.setdefault(event["connection_id"], Counter())[kind] += 1
            if sum(counts["ended"] for counts in found.values()) >= expected:
                return found
            await asyncio.sleep(0.5)


async def gauge(service: Service, metric: str) -> float:
    """The sum of a metric's samples."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"{service.http}/metrics")).text
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith((f"{metric}{{", f"{metric} "))
    )


async def domain_figures(service: Service) -> dict[str, float]:
    """What Prometheus would see of the connections."""
    return {
        "opened_total": await gauge(service, "ws_updates_connections_opened_total"),
        "disconnections": await gauge(service, "ws_updates_disconnections_total"),
        "clients": await gauge(service, "ws_updates_clients"),
    }


async def test_a_kill_of_everything_loses_no_connection_and_ends_each_once(private_service: Private) -> None:
    service = private_service("data", "--workers", "2")
    await asyncio.to_thread(service.start)
    clients = await asyncio.gather(*(opened(service, f"c{number}") for number in range(CONNECTIONS)))
    seen = {connection for _, connection in clients}
    async with httpx.AsyncClient() as http:
        posted = await http.post(f"{service.http}/v1/telemetry", json=telemetry("page-1", 1))
        assert posted.status_code == 202, posted.text
        await asyncio.to_thread(service.kill_everything)
    await asyncio.gather(*(client.close() for client, _ in clients))
    await asyncio.to_thread(service.start)
    found = await ends(service, expected=CONNECTIONS)
    assert set(found) == seen
    assert {connection: dict(counts) for connection, counts in found.items()} == {
        connection: {"opened": 1, "ended": 1} for connection in seen
    }
    expected = {"opened_total": CONNECTIONS, "disconnections": CONNECTIONS, "clients": 0}
    async with asyncio.timeout(30):
        while (figures := await domain_figures(service)) != expected:  # the last scrape may be a second old
            await asyncio.sleep(0.3)
    assert figures == expected
    verified = await asyncio.to_thread(service.run, "log", "verify", "--json")
    assert json.loads(verified.stdout)["findings"] == []
    lines = (await asyncio.to_thread(service.run, "tail", "--no-follow", "--limit", "100000", "--json")).stdout
    assert sum(json.loads(line)["event_type"] == "page.visible" for line in lines.splitlines()) == 1


async def test_postgres_away_under_traffic_costs_nothing(private_service: Private) -> None:
    """Frozen, not ended: the connection stays and nothing answers, the worst way to be away."""
    service = private_service("data")
    await asyncio.to_thread(service.start)
    stayed = [await opened(service, f"stays{number}") for number in range(20)]
    answering = [asyncio.create_task(answer(client)) for client, _ in stayed]
    connections = {connection for _, connection in stayed}
    with service.frozen_postgres():
        began, slowest = time.monotonic(), 0.0
        while time.monotonic() - began < OUTAGE:
            asked = time.monotonic()
            client, connection = await opened(service, "comes")
            slowest = max(slowest, time.monotonic() - asked)
            connections.add(connection)
            await client.close()
            await asyncio.sleep(0.05)
        async with httpx.AsyncClient() as http:
            ready = await http.get(f"{service.http}/readyz")
            assert ready.status_code == 200, "the gateway is ready without its database"
            assert "log" in ready.json()["degraded"]
    assert slowest < 2.0, "no handshake waited for the database"
    assert not any(task.done() for task in answering), "no connection was dropped"
    for client, _ in stayed:
        await client.close()
    found = await ends(service, expected=len(connections))
    assert set(found) == connections
    assert all(counts == {"opened": 1, "ended": 1} for counts in found.values())
    lines = (await asyncio.to_thread(service.run, "tail", "--no-follow", "--limit", "100000", "--json")).stdout
    names = Counter(json.loads(line)["event_type"] for line in lines.splitlines())
    assert names["connection.lost"] == 0
    assert names["heartbeat.missed"] == 0
    assert json.loads((await asyncio.to_thread(service.run, "log", "verify", "--json")).stdout)["findings"] == []


async def test_a_node_that_is_gone_for_good_has_its_connections_ended_once_by_another(
    private_service: Private, database_url: str
) -> None:
    stays = private_service("stays", DATABASE_URL=database_url)
    goes = private_service("goes", DATABASE_URL=database_url)
    await asyncio.to_thread(stays.start)
    await asyncio.to_thread(goes.start)
    kept = await opened(stays, "kept")
    answering = asyncio.create_task(answer(kept[0]))
    lost = [await opened(goes, f"lost{number}") for number in range(10)]
    await asyncio.sleep(1.0)  # its journal is shipped and its lease renewed
    await asyncio.to_thread(goes.kill_everything)
    await asyncio.gather(*(client.close() for client, _ in lost))
    found = await ends(stays, expected=10)
    ended = {connection for connection, counts in found.items() if counts["ended"]}
    assert ended == {connection for _, connection in lost}
    assert all(found[connection] == {"opened": 1, "ended": 1} for connection in ended)
    for _, connection in lost:
        row = (await asyncio.to_thread(stays.json, "history", connection))["connections"][0]
        assert (row["reason"], row["initiator"]) == ("server_lost", "server")
    assert not answering.done(), "the other instance's connection was left alone"
    await kept[0].close()
