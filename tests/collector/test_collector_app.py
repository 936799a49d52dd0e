import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import msgspec
import pytest
from collector_batches import batch, client_event
from collector_service import SHARDS, serving
from prometheus_client import CollectorRegistry

from pulsetrail.journal import Journal
from pulsetrail.log import Cursor
from pulsetrail.log.memory import MemoryLog
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.settings import Settings
from pulsetrail_collector.app import create_app
from pulsetrail_collector.dead_letters import DeadLetter


@pytest.fixture
async def log() -> MemoryLog:
    return MemoryLog(shards=SHARDS)


@pytest.fixture
async def http(tmp_path: Path, log: MemoryLog) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a collector in a process of its own."""
    metrics = PipelineMetrics(CollectorRegistry())
    journal = Journal.open(tmp_path / "collector.sqlite", sync="normal", observer=metrics)

    async def sink(letters: Sequence[DeadLetter]) -> None:
        pass

    app = create_app(
        Settings(_env_file=None, trusted_proxies=()),  # type: ignore[call-arg]  # pydantic-settings' own argument
        journal=journal,
        log=log,
        deployment=await log.deployment(),
        metrics=metrics,
        snapshots=tmp_path / "metrics",
        sink=sink,
    )
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as http:
        yield http


async def until_metrics_hold(http: httpx.AsyncClient, text: str) -> str:
    async with asyncio.timeout(10):
        while text not in (body := (await http.get("/metrics")).text):
            await asyncio.sleep(0.05)
    return body


async def test_what_it_accepts_reaches_the_log_with_who_the_client_is(http: httpx.AsyncClient, log: MemoryLog) -> None:
    reply = await http.post("/v1/telemetry", content=msgspec.json.encode(batch(client_event())))
    assert reply.status_code == 202

    async with asyncio.timeout(10):
        while not (events := [e for shard in range(SHARDS) for e in await log.read_after(shard, Cursor(), 10)]):
            await asyncio.sleep(0.01)
        while not log.identities:
            await asyncio.sleep(0.01)
    assert [recorded.event.event_type for recorded in events] == ["socket.opened"]
    assert {identity.client_id for identity in log.identities.values()} == {"client-1"}


async def test_it_is_healthy_and_ready(http: httpx.AsyncClient) -> None:
    assert (await http.get("/healthz")).json() == {"status": "ok"}
    assert (await http.get("/readyz")).json() == {"status": "ok", "waiting": {}}


async def test_its_figures_carry_its_name(http: httpx.AsyncClient) -> None:
    await http.post("/v1/telemetry", content=msgspec.json.encode(batch(client_event())))
    expected = 'pulsetrail_collector_events_total{outcome="accepted",process="collector"} 1.0'
    body = await until_metrics_hold(http, expected)
    assert 'pulsetrail_event_loop_lag_seconds_count{process="collector"}' in body


async def test_its_figures_are_for_this_machine_unless_there_is_a_token(http: httpx.AsyncClient) -> None:
    assert (await http.get("/metrics")).status_code == 200
    assert (await http.get("/metrics", headers={"x-forwarded-for": "192.0.2.1"})).status_code == 401
