"""The fleet against the real service: what its records say is what happened."""

from __future__ import annotations

import asyncio
from pathlib import Path

from examination import Examiner, assert_nothing_is_wrong, gauge_findings
from fleet import WAYS, Fleet, Habits
from records import Record

from conftest import Serve

CLIENTS = 40


async def test_a_fleet_that_churns_and_talks_leaves_records_that_agree_with_the_log(
    serve: Serve, tmp_path: Path
) -> None:
    service = serve("--workers", "2")
    await asyncio.to_thread(service.start)
    examiner = Examiner(service.database_url, [tmp_path / "clients.jsonl"])
    with Record(tmp_path / "clients.jsonl") as record:
        async with Fleet(record, service.port, CLIENTS, habits=Habits(telemetry_interval=0.2)) as fleet:
            await fleet.connect()
            churning = fleet.churn(20.0)
            await asyncio.sleep(2.0)
            churning.cancel()
            await fleet.until_all_open(10)
            async with fleet.quiet():
                assert_nothing_is_wrong(await examiner.settle(10))
                assert_nothing_is_wrong(await gauge_findings(service.http, "ws_updates_clients", CLIENTS, 10))
            left = {seen.ended for seen in examiner.clients.handshakes.values()} - {None}
            assert left == set(WAYS), "each way of leaving was tried, and the service dropped nobody"
            assert examiner.clients.open_connections == CLIENTS
            assert not fleet.drops
    assert not examiner.clients.refusals
    acknowledged = sum(map(len, examiner.clients.acknowledged.values()))
    assert acknowledged > CLIENTS, "telemetry was under way"
    assert_nothing_is_wrong(await examiner.examine_all(10))


async def test_a_fleet_notices_that_the_service_is_gone_and_comes_back(serve: Serve, tmp_path: Path) -> None:
    service = serve()
    await asyncio.to_thread(service.start)
    examiner = Examiner(service.database_url, [tmp_path / "clients.jsonl"], one_lane=True)
    with Record(tmp_path / "clients.jsonl") as record:
        async with Fleet(record, service.port, CLIENTS) as fleet:
            await fleet.connect()
            await asyncio.to_thread(service.kill_everything)
            await asyncio.sleep(0.1)
            assert fleet.open_connections == 0
            assert fleet.drops == CLIENTS
            await asyncio.to_thread(service.start)
            await fleet.until_all_open(20)
            async with fleet.quiet():
                assert_nothing_is_wrong(await examiner.settle(10))
