"""The gateway's HTTP side, and the breaker around the broadcast."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import httpx
import pytest
from gateway_runner import Start, receive
from prometheus_client.parser import text_string_to_metric_families

from pulsetrail.errors import LogUnavailable
from pulsetrail_service.updates import LocalUpdates, Update


async def test_an_update_that_is_posted_reaches_every_client_and_those_that_poll(gateway: Start) -> None:
    async with gateway() as running, running.client() as client, httpx.AsyncClient(base_url=running.http) as http:
        welcome = await receive(client, "welcome")
        posted = await http.post("/v1/updates", json={"topic": "prices", "data": {"EURUSD": 1.08}})
        assert posted.status_code == 202
        assert posted.json() == {"stream_epoch": welcome["stream_epoch"], "stream_position": 1}
        update = await receive(client, "update")
        assert (update["topic"], update["data"], update["stream_position"]) == ("prices", {"EURUSD": 1.08}, 1)
        polled = await http.get("/v1/updates", params={"since": 0, "since_epoch": welcome["stream_epoch"]})
        assert polled.json()["resumed"] is True
        assert polled.json()["updates"] == [update]
        assert (await http.get("/v1/updates")).json()["resumed"] is False


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"topic":"t"}', 400),
        (b'{"topic":"no spaces please","data":1}', 400),
        (b'{"topic":"t","data":"' + b"x" * 20_000 + b'"}', 413),
    ],
)
async def test_a_bad_update_is_refused_in_words(gateway: Start, body: bytes, status: int) -> None:
    async with gateway() as running, httpx.AsyncClient(base_url=running.http) as http:
        answer = await http.post("/v1/updates", content=body)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"].endswith(".")


async def test_publishing_takes_the_token_once_there_is_one(gateway: Start) -> None:
    async with gateway(publish_token="secret") as running, httpx.AsyncClient(base_url=running.http) as http:
        update = {"topic": "t", "data": 1}
        assert (await http.post("/v1/updates", json=update)).status_code == 401
        good = {"Authorization": "Bearer secret"}
        assert (await http.post("/v1/updates", json=update, headers=good)).status_code == 202


async def test_without_a_token_a_proxy_on_this_machine_does_not_make_strangers_local(gateway: Start) -> None:
    async with gateway() as running, httpx.AsyncClient(base_url=running.http) as http:
        forwarded = {"X-Forwarded-For": "203.0.113.9"}
        answer = await http.post("/v1/updates", json={"topic": "t", "data": 1}, headers=forwarded)
        assert answer.status_code == 401
        assert (await http.get("/metrics", headers=forwarded)).status_code == 401


async def test_a_page_of_an_allowed_origin_can_poll_and_a_foreign_one_cannot(gateway: Start) -> None:
    allowed, foreign = {"Origin": "https://app.example.com"}, {"Origin": "https://evil.example"}
    ask = {"Access-Control-Request-Method": "GET"}
    async with (
        gateway(allowed_origins=("https://app.example.com",)) as running,
        httpx.AsyncClient(base_url=running.http) as http,
    ):
        polled = await http.get("/v1/updates", headers=allowed)
        assert polled.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "access-control-allow-origin" not in (await http.get("/v1/updates", headers=foreign)).headers
        assert (await http.options("/v1/updates", headers={**allowed, **ask})).status_code == 204
        assert (await http.options("/v1/updates", headers={**foreign, **ask})).status_code == 403


async def test_health_readiness_metrics_and_a_plain_get_of_the_socket(gateway: Start) -> None:
    async with gateway() as running, httpx.AsyncClient(base_url=running.http) as http:
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")
        assert (await http.get("/ws/updates")).status_code == 426
        assert (await http.get("/metrics/targets")).json()[0]["targets"] == ["127.0.0.1:1"]
        families: set[str] = set()
        async with asyncio.timeout(10):
            while "pulsetrail_journal_commit_seconds" not in families:
                text = (await http.get("/metrics")).text
                families = {family.name for family in text_string_to_metric_families(text)}
                await asyncio.sleep(0.1)
        assert "pulsetrail_append_total" in families or "pulsetrail_append" in families


class Flaky(LocalUpdates):
    """A source that fails while it is told to."""

    failing = False

    async def read(self, after: int) -> Sequence[Update]:
        if self.failing:
            await asyncio.sleep(0.01)
            raise LogUnavailable("told to fail")
        async with asyncio.timeout(0.02):
            return await super().read(after)


class Patient(Flaky):
    """Like ``Flaky``; a read without updates is no failure."""

    async def read(self, after: int) -> Sequence[Update]:
        try:
            return await super().read(after)
        except TimeoutError:
            return ()


async def test_a_failing_source_suspends_the_broadcast_and_one_trial_resumes_it(gateway: Start) -> None:
    source = Patient(bound=100)
    async with gateway(source=source, breaker_failures=3, breaker_seconds=1.0) as running, running.client() as client:
        await receive(client, "welcome")
        source.failing = True
        assert (await receive(client, "degraded"))["reason"] == "broadcast_suspended"
        _, payload = await running.event("broadcast.suspended")
        assert payload == {"cause": "LogUnavailable", "failures": 3}
        async with httpx.AsyncClient(base_url=running.http) as http:
            ready = await http.get("/readyz")
            assert ready.status_code == 200
            assert "broadcast" in ready.json()["degraded"]
        await running.gateway.broadcaster.publish("t", "kept")
        source.failing = False
        assert (await receive(client, "update"))["data"] == "kept"
        await receive(client, "restored")
        _, payload = await running.event("broadcast.resumed")
        assert payload["suspended_ms"] >= 900
