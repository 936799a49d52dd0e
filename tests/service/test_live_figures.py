"""What the service tells its clients of itself, once a second."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import jwt
import msgspec
from gateway_runner import Start, receive
from prometheus_client import CollectorRegistry

from pulsetrail.domain_metrics import domain_families
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.metrics_snapshot import SnapshotReader, SnapshotWriter
from pulsetrail.projections.figures import DomainFigures, HistogramFigures
from pulsetrail_service.live_figures import PAST_SECONDS, PAST_STEP_SECONDS, RecentFigures, read_live_figures

FIGURES = DomainFigures(
    connections_opened=12,
    disconnections={("normal", "client"): 4, ("unknown", "network"): 1, ("unknown", "unknown"): 2},
    events={"connection.opened": 12, "connection.closed": 7},
    clients={"otter-0": 3, "otter-1": 2},
    heartbeat_rtt=HistogramFigures([0.1, 1.0], [9, 1, 0], 1.5),
)


def a_process(directory: Path, name: str) -> tuple[SnapshotWriter, PipelineMetrics]:
    metrics = PipelineMetrics(CollectorRegistry())
    return SnapshotWriter(directory, name, metrics.registry), metrics


def published(directory: Path) -> Any:
    """As a client gets it."""
    return msgspec.json.decode(msgspec.json.encode(read_live_figures(SnapshotReader(directory))))


def test_the_figures_of_the_connections_are_those_that_the_projections_export(tmp_path: Path) -> None:
    writer, _ = a_process(tmp_path, "projector")
    writer.publish(domain_families(FIGURES))
    writer.write()
    said = published(tmp_path)
    assert said["current"] is True
    figures = said["figures"]
    assert figures["ws_updates_clients"] == {"otter-0": 3, "otter-1": 2}
    assert figures["ws_updates_connections_opened"] == 12
    assert figures["pulsetrail_log_events"] == {"connection.opened": 12, "connection.closed": 7}
    assert figures["ws_updates_heartbeat_rtt_seconds"] == {"0.1": 9, "1.0": 10, "+Inf": 10, "count": 10, "sum": 1.5}
    assert figures["ws_updates_disconnections"] == {"normal/client": 4, "unknown/network": 1, "unknown/unknown": 2}
    assert "ws_updates_flapping_clients" not in figures, "no figure is better than a wrong 0"


def test_the_pipeline_is_that_of_all_processes_and_the_worst_of_their_ages_counts(tmp_path: Path) -> None:
    for name, rows, oldest in (("gateway-0", 3, 0.5), ("gateway-1", 4, 7.0)):
        writer, metrics = a_process(tmp_path, name)
        metrics.journal_size(rows, 4096, oldest)
        metrics.journal_committed(1, 0.0002)
        metrics.events_dropped("detail", "journal_full", 2)
        writer.write()
    writer, metrics = a_process(tmp_path, "projector")
    metrics.projection_measured("closes", 10, 0.5, 1)
    metrics.projection_measured("connections", 40, 2.5, 0)
    metrics.partitions_measured(7)
    writer.write()
    said = published(tmp_path)
    assert (said["current"], said["figures"]) == (False, {}), "nobody exports the domain"
    assert said["processes"] == ["gateway-0", "gateway-1", "projector"]
    commits = said["pipeline"].pop("pulsetrail_journal_commit_seconds")
    assert (commits["0.0001"], commits["0.00025"], commits["count"]) == (0, 2, 2)
    assert said["pipeline"] == {
        "pulsetrail_journal_rows": 7,
        "pulsetrail_journal_bytes": 8192,
        "pulsetrail_journal_oldest_seconds": 7.0,
        "pulsetrail_events_dropped": 4,
        "pulsetrail_projection_lag_events": 40,
        "pulsetrail_projection_lag_seconds": 2.5,
        "pulsetrail_projection_dead_letters": 1,
        "pulsetrail_partitions_ahead": 7,
    }


async def test_they_are_updates_while_a_client_watches_and_nobody_else_causes_any(gateway: Start) -> None:
    async with gateway(live_figures_interval=0.05) as running, running.client() as bystander:
        await receive(bystander, "welcome")
        await asyncio.sleep(0.3)
        assert running.gateway.broadcaster.ring.head == 0, "nobody watches"
        async with running.client("watch=telemetry") as client:
            await receive(client, "welcome")
            first, second = await receive(client, "update"), await receive(client, "update")
            assert {first["topic"], second["topic"]} == {"telemetry"}
            assert second["data"]["time"] > first["data"]["time"] > 1_600_000_000_000
        await running.event("connection.closed")
        await asyncio.sleep(0.1)
        head = running.gateway.broadcaster.ring.head
        await asyncio.sleep(0.3)
        assert running.gateway.broadcaster.ring.head == head, "nobody watches any more"
        async with httpx.AsyncClient() as http:
            await http.get(f"{running.http}/v1/updates")
        assert (await receive(bystander, "update"))["topic"] == "telemetry"


async def test_a_client_of_another_worker_is_heard_of_by_its_metric(gateway: Start, tmp_path: Path) -> None:
    writer, metrics = a_process(tmp_path / "run" / "metrics", "gateway-1")
    async with gateway(live_figures_interval=0.05, workers=2) as running, running.client() as client:
        await receive(client, "welcome")
        metrics.watched(1)
        writer.path = running.gateway.writer.path.with_name(writer.path.name)
        writer.write()
        assert (await receive(client, "update"))["topic"] == "telemetry"


def test_the_figures_of_the_last_minutes_are_kept_at_a_distance_and_no_longer() -> None:
    recent = RecentFigures()
    for second in range(2 * PAST_SECONDS):
        if recent.wants(second * 1000):
            recent.keep(second * 1000, b"%d" % second)
    kept = [int(figures) for figures in recent.after(-1)]
    assert kept[0] == PAST_SECONDS, "the older half is forgotten"
    assert {later - earlier for earlier, later in pairwise(kept)} == {PAST_STEP_SECONDS}
    assert recent.after(kept[-2] * 1000) == [b"%d" % kept[-1]]


async def test_a_page_that_is_opened_later_has_a_past_although_nobody_watched(gateway: Start) -> None:
    async with gateway(live_figures_interval=0.05) as running, httpx.AsyncClient(base_url=running.http) as http:
        async with asyncio.timeout(10):
            while not (figures := (await http.get("/v1/figures")).json()["figures"]):
                await asyncio.sleep(0.05)
        assert figures[0]["time"] > 1_600_000_000_000
        assert running.gateway.broadcaster.ring.head == 0, "asking for the past is not watching"
        later = await http.get("/v1/figures", params={"since": figures[0]["time"]})
        assert later.json() == {"figures": []}
        assert later.headers["cache-control"] == "no-store"


async def test_the_past_is_for_those_who_may_connect(gateway: Start) -> None:
    async with (
        gateway(auth_mode="jwt", jwt_key="k" * 32) as running,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        assert (await http.get("/v1/figures")).status_code == 401
        token = jwt.encode({"sub": "wall", "exp": time.time() + 60}, "k" * 32)
        allowed = await http.get("/v1/figures", headers={"Authorization": f"Bearer {token}"})
        assert allowed.json() == {"figures": []}
