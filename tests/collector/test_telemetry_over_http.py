import asyncio
import gzip
import json
import time
import zlib
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest
from collector_batches import batch, client_event, zipped
from collector_service import Service, Start

from pulsetrail.identity import client_ref, shard_of
from pulsetrail_collector.dead_letters import DeadLetter, DeadLetters

CONNECTION = "01890a5d-ac96-774b-bcce-b302099a8057"


async def test_a_batch_is_in_the_journal_before_its_202(service: Service) -> None:
    reply = await service.send(batch(client_event(1), client_event(2, "page.hidden")))

    assert reply.status_code == 202
    assert reply.json() == {"accepted": 2, "rejected": []}
    assert [event.event_type for event in await service.recorded()] == ["socket.opened", "page.hidden"]
    assert service.count("accepted") == 2


async def test_an_event_carries_its_identity_its_times_and_its_context(service: Service) -> None:
    closed = client_event(
        7, "socket.closed", connection_id=CONNECTION, attempt=3, code=1006, clean=False, cause="peer_reset"
    )
    await service.send(batch(closed))

    (event,) = await service.recorded()
    reference = client_ref(b"k" * 32, "client-1")
    assert (event.source, event.client_ref, event.shard) == ("client", reference, shard_of(reference, 4))
    assert (event.page_id, event.connection_id, event.close_code) == ("page-1", UUID(CONNECTION), 1006)
    payload = json.loads(event.payload)
    assert payload["seq"] == 7
    assert payload["wall"] == pytest.approx(closed["wall"])
    assert payload["mono"] == 4000.5
    assert payload["attempt"] == 3
    assert payload["cause"] == "peer_reset"
    assert payload["app"] == "shop"
    assert payload["release"] == "1.2.3"
    assert payload["ctx"] == {"visibility": "visible", "network": "wifi", "effective_type": "4g"}
    assert "connection_id" not in payload
    assert "type" not in payload


async def test_the_clients_own_id_goes_beside_the_log_never_into_it(service: Service) -> None:
    await service.send(batch(client_event(), client_id="alice@laptop"))

    (event,) = await service.recorded()
    assert b"alice" not in event.payload
    identities = await service.journal.identities(10)
    assert [(identity.client_ref, identity.client_id) for identity in identities] == [
        (event.client_ref, "alice@laptop")
    ]


async def test_one_bad_event_does_not_lose_the_others(service: Service) -> None:
    reply = await service.send(
        batch(
            client_event(1),
            client_event(2, "no.such_type"),
            client_event(-3),
            {"type": "page.hidden"},
            "not an object",
            client_event(6, connection_id="not a uuid"),
            client_event(7, "page.hidden"),
        )
    )

    assert reply.status_code == 202
    assert reply.json()["accepted"] == 2
    assert [rejected["index"] for rejected in reply.json()["rejected"]] == [1, 2, 3, 4, 5]
    assert "$.seq" in reply.json()["rejected"][1]["reason"]
    assert len(await service.recorded()) == 2
    assert service.count("rejected") == 5


async def test_a_beacon_is_text_with_the_key_in_the_query(start: Start) -> None:
    service = await start(write_key="s3cret")
    reply = await service.send(
        batch(client_event()), "/v1/telemetry?key=s3cret", content_type="text/plain;charset=UTF-8"
    )
    assert reply.status_code == 202


@pytest.mark.parametrize("given", [{}, {"x_pulsetrail_key": "wrong"}, {"x_pulsetrail_key": "s3cre"}])
async def test_without_the_write_key_nothing_is_taken(start: Start, given: dict[str, str]) -> None:
    service = await start(write_key="s3cret")
    reply = await service.send(batch(client_event()), **given)
    assert reply.status_code == 401
    assert reply.headers["content-type"] == "application/problem+json"
    assert await service.recorded() == []
    assert (await service.send(batch(client_event()), x_pulsetrail_key="s3cret")).status_code == 202


async def test_a_cookie_changes_nothing(service: Service) -> None:
    reply = await service.send(batch(client_event()), cookie="session=1")
    assert reply.status_code == 202
    assert "set-cookie" not in reply.headers


async def test_gzip_is_unpacked(service: Service) -> None:
    reply = await service.send(zipped(batch(client_event())), content_encoding="gzip")
    assert reply.json() == {"accepted": 1, "rejected": []}


async def test_a_gzip_bomb_is_refused_with_413(service: Service) -> None:
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(b" " * (1 << 20)) for _ in range(64)) + packer.flush()
    assert len(bomb) < 100_000
    reply = await service.send(bomb, content_encoding="gzip")
    assert reply.status_code == 413
    assert service.count("too_large") == 1


@pytest.mark.parametrize(
    "body",
    [b"not gzip", gzip.compress(b"{}")[:-4], gzip.compress(b"{}") + b"more", b""],
    ids=["no", "cut", "more", "0"],
)
async def test_damaged_gzip_is_refused_with_400(service: Service, body: bytes) -> None:
    assert (await service.send(body, content_encoding="gzip")).status_code == 400


async def test_a_body_above_the_cap_is_refused_with_413_whether_or_not_it_says_its_length(start: Start) -> None:
    service = await start(telemetry_max_bytes=2048)
    large = b"{" + b" " * 4096 + b"}"

    async def chunked() -> AsyncIterator[bytes]:
        for _ in range(8):
            yield b" " * 1024

    assert (await service.send(large)).status_code == 413
    reply = await service.http.post("/v1/telemetry", content=chunked(), headers={"content-type": "application/json"})
    assert reply.status_code == 413


async def test_a_batch_that_cannot_be_read_is_kept_and_answered_with_the_path_of_its_first_fault(
    service: Service,
) -> None:
    malformed = batch(client_event(), sent_wall="yesterday")
    reply = await service.send(malformed)

    assert reply.status_code == 400
    assert "$.sent_wall" in reply.json()["detail"]
    letters: list[DeadLetter] = []

    async def sink(taken: Sequence[DeadLetter]) -> None:
        letters.extend(taken)

    moving = asyncio.create_task(service.dead_letters.run(sink, pause_seconds=0))
    async with asyncio.timeout(5):
        while not letters:
            await asyncio.sleep(0.005)
    moving.cancel()
    assert json.loads(letters[0].raw) == malformed
    assert letters[0].stage == "collector"
    assert "$.sent_wall" in letters[0].reason


async def test_the_rate_of_an_address_is_limited_with_a_hint(start: Start) -> None:
    service = await start(telemetry_rate_per_address="3/minute")
    statuses = [(await service.send(batch(client_event(number)))).status_code for number in range(3)]
    refused = await service.send(batch(client_event()))
    assert statuses == [202, 202, 202]
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 120


async def test_forwarded_addresses_count_only_from_trusted_proxies(start: Start) -> None:
    service = await start(telemetry_rate_per_address="1/minute")
    statuses = [
        (await service.send(batch(client_event()), x_forwarded_for=f"192.0.{number}.1")).status_code
        for number in range(2)
    ]
    assert statuses == [202, 429]


async def test_behind_a_trusted_proxy_each_client_has_its_own_rate(start: Start) -> None:
    service = await start(telemetry_rate_per_address="1/minute", trusted_proxies="127.0.0.0/8")
    statuses = [
        (await service.send(batch(client_event()), x_forwarded_for=f"192.0.{number}.1")).status_code
        for number in range(2)
    ]
    assert statuses == [202, 202]


async def test_when_the_journal_is_nearly_full_the_batch_is_sent_back_with_503(start: Start) -> None:
    service = await start(journal_bytes=1 << 20)
    seq, reply = 0, None
    for _ in range(2000):
        events = [client_event(seq + number, "socket.closed", detail="x" * 250) for number in range(50)]
        seq += 50
        reply = await service.send(batch(*events))
        if reply.status_code != 202:
            break
    assert reply is not None
    assert reply.status_code == 503, "the journal never filled"
    assert int(reply.headers["retry-after"]) > 0
    assert service.count("overloaded") == 1


class TestOrigins:
    async def test_an_allowed_origin_may_read_the_reply(self, start: Start) -> None:
        service = await start(allowed_origins="https://app.example.com")
        reply = await service.send(batch(client_event()), origin="https://app.example.com")
        assert reply.status_code == 202
        assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "access-control-allow-credentials" not in reply.headers
        assert reply.headers["vary"] == "Origin"

    async def test_it_may_read_a_refusal_and_its_hint_too(self, start: Start) -> None:
        service = await start(allowed_origins="https://app.example.com")
        reply = await service.send(b"{", origin="https://app.example.com")
        assert reply.status_code == 400
        assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
        assert reply.headers["access-control-expose-headers"] == "Retry-After"

    @pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.com.evil.example"])
    async def test_a_foreign_one_is_refused_and_never_echoed(self, start: Start, origin: str) -> None:
        service = await start(allowed_origins="https://app.example.com")
        reply = await service.send(batch(client_event()), origin=origin)
        assert reply.status_code == 403
        assert "access-control-allow-origin" not in reply.headers
        assert await service.recorded() == []

    async def test_the_services_own_pages_are_welcome(self, service: Service) -> None:
        assert (await service.send(batch(client_event()), origin=service.url)).status_code == 202

    async def test_a_preflight_is_answered_for_allowed_origins_only(self, start: Start) -> None:
        service = await start(allowed_origins="https://app.example.com")
        ask = {"access-control-request-method": "POST", "access-control-request-headers": "content-type"}
        allowed = await service.http.options("/v1/telemetry", headers={"origin": "https://app.example.com", **ask})
        foreign = await service.http.options("/v1/telemetry", headers={"origin": "https://evil.example", **ask})
        assert allowed.status_code == 204
        assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
        assert "x-pulsetrail-key" in allowed.headers["access-control-allow-headers"].lower()
        assert foreign.status_code == 403
        assert "access-control-allow-origin" not in foreign.headers


async def test_faults_of_the_chaos_proxy_come_in_batches_of_its_own(service: Service) -> None:
    fault = client_event(1, "chaos.applied", fault="latency", target="127.0.0.1:8000", for_ms=5000)
    reply = await service.send(batch(fault, client_event(2), sdk="chaos/1.0"))
    assert [rejected["index"] for rejected in reply.json()["rejected"]] == [1]
    (event,) = await service.recorded()
    assert (event.event_type, event.source) == ("chaos.applied", "chaos")

    from_a_browser = await service.send(batch(fault))
    assert from_a_browser.json()["accepted"] == 0
    from_a_page_that_pretends = await service.send(batch(fault, sdk="chaos/1.0"), origin=service.url)
    assert from_a_page_that_pretends.json()["accepted"] == 0


async def test_a_sender_that_hangs_up_disturbs_nobody(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /v1/telemetry HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert (await service.send(batch(client_event()))).status_code == 202


async def test_an_empty_batch_is_accepted(service: Service) -> None:
    assert (await service.send(batch())).json() == {"accepted": 0, "rejected": []}


async def test_other_content_is_refused(service: Service) -> None:
    assert (await service.send(b"<x/>", content_type="application/xml")).status_code == 415


async def test_two_hundred_events_cost_little(service: Service) -> None:
    body = batch(*(client_event(number, "backoff.scheduled", delay_ms=2000.0) for number in range(200)))
    await service.send(body)
    started = time.process_time()
    for _ in range(10):
        assert (await service.send(body)).status_code == 202
    assert (time.process_time() - started) / 10 < 0.1, "client, server and journal together"


async def test_the_api_description_tells_every_field_of_every_event(service: Service) -> None:
    described = (await service.http.get("/openapi.json")).json()
    operation = described["paths"]["/v1/telemetry"]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    kinds = {item["properties"]["type"]["enum"][0] for item in schema["properties"]["events"]["items"]["oneOf"]}
    assert "socket.closed" in kinds
    assert "$ref" not in json.dumps(operation["requestBody"])
    assert set(operation["responses"]) >= {"202", "400", "401", "413", "429", "503"}


async def test_dead_letters_that_do_not_fit_are_counted_and_never_waited_for(service: Service) -> None:
    few = DeadLetters(service.metrics, max_letters=2)
    for _ in range(5):
        few.put(1, "malformed", b"{")
    assert len(few) == 2
    assert service.count("dead_letter_dropped") == 3
