import json

from collector_service import Service, Start

from pulsetrail.identity import shard_of

REPORT = {
    "age": 30_000,
    "type": "network-error",
    "url": "https://updates.example.com/ws/updates?ticket=secret",
    "user_agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36",
    "body": {
        "sampling_fraction": 1.0,
        "referrer": "https://app.example.com/private",
        "server_ip": "192.0.2.1",
        "protocol": "http/1.1",
        "method": "GET",
        "status_code": 0,
        "elapsed_time": 823,
        "phase": "connection",
        "type": "tcp.timed_out",
    },
}


async def test_a_network_error_becomes_an_event_at_the_time_when_it_happened(service: Service) -> None:
    reply = await service.send([REPORT], "/v1/reports", content_type="application/reports+json")

    assert reply.status_code == 202
    (event,) = await service.recorded()
    assert (event.event_type, event.source) == ("network.reported", "browser")
    assert event.shard == shard_of("127.0.0.0/24", 4)
    assert event.received_at - event.occurred_at == 30_000_000
    payload = json.loads(event.payload)
    assert (payload["phase"], payload["type"], payload["elapsed_ms"]) == ("tcp", "tcp.timed_out", 823)
    assert (payload["host"], payload["browser"], payload["os"]) == ("updates.example.com", "chrome", "linux")


async def test_nothing_of_the_url_but_its_host_and_no_referrer_is_kept(service: Service) -> None:
    await service.send([REPORT], "/v1/reports", content_type="application/reports+json")
    (event,) = await service.recorded()
    for private in (b"secret", b"ws/updates", b"private", b"192.0.2.1"):
        assert private not in event.payload


async def test_reports_of_other_kinds_are_left_out(service: Service) -> None:
    others = [{"type": "csp-violation", "age": 1, "url": "https://x.example", "body": {}}, {"age": "x"}, 5]
    reply = await service.send([*others, REPORT], "/v1/reports", content_type="application/reports+json")
    assert reply.status_code == 202
    assert len(await service.recorded()) == 1
    assert service.count("rejected") == 3


async def test_when_reports_are_off_the_browser_is_told_to_unsubscribe(start: Start) -> None:
    service = await start(accept_reports=False)
    reply = await service.send([REPORT], "/v1/reports", content_type="application/reports+json")
    assert reply.status_code == 410


async def test_reports_have_a_rate_too(start: Start) -> None:
    service = await start(telemetry_rate_per_address="1/minute")
    statuses = [
        (await service.send([REPORT], "/v1/reports", content_type="application/reports+json")).status_code
        for _ in range(2)
    ]
    assert statuses == [202, 429]


async def test_a_body_that_is_no_list_is_malformed(service: Service) -> None:
    reply = await service.send(b"{}", "/v1/reports", content_type="application/reports+json")
    assert reply.status_code == 400
