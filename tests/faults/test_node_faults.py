"""F5: a node is frozen past its lease and comes back, a node is gone for ever, and Postgres is away for longer than a
lease: each connection ends once, none that is alive is ended, and nothing acknowledged is refused."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from examination import Examiner, assert_nothing_is_wrong
from load import HEARTBEAT, load, recorded, until
from postgres_faults import frozen as postgres_frozen
from service_runner import Service
from sizes import FULL, tell

from conftest import Serve
from pulsetrail.embedded import EmbeddedPostgres


@contextmanager
def gateways_frozen(service: Service) -> Iterator[None]:
    """The workers that have the connections are stopped, as by a host that hangs; nothing else is."""
    workers = [psutil.Process(pid) for pid in service.processes()]
    workers = [worker for worker in workers if "gateway" in worker.cmdline()]
    assert workers
    for worker in workers:
        worker.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGCONT)


CLIENTS, HANDSHAKES = (500, 40.0) if FULL else (50, 10.0)


@pytest.mark.timeout(900)
async def test_a_node_that_is_given_up_and_one_that_is_gone_end_each_connection_once_and_lose_nothing(
    serve: Serve, tmp_path: Path, database_url: str
) -> None:
    lease = "15" if FULL else "2"
    stays = serve("--workers", "2", name="stays", DATABASE_URL=database_url, PULSETRAIL_NODE_LEASE=lease)
    goes = serve("--workers", "2", name="goes", DATABASE_URL=database_url, PULSETRAIL_NODE_LEASE=lease)
    await asyncio.gather(asyncio.to_thread(stays.start), asyncio.to_thread(goes.start))
    records = [tmp_path / "stays.jsonl", tmp_path / "goes.jsonl"]
    examiner = Examiner(database_url, records)
    async with (
        load(stays, records[0], CLIENTS, HANDSHAKES, examiner=examiner) as beside,
        load(goes, records[1], CLIENTS, HANDSHAKES, examiner=examiner) as under_way,
    ):

        async def all_are_lost() -> bool:
            return await recorded(database_url, "connection.lost") >= under_way.fleet.open_connections

        with gateways_frozen(goes):
            await until(all_are_lost, 60, "the end of every connection of the frozen node")
        await under_way.come_to_rest()
        assert await recorded(database_url, "connection.end_reported_late") > 0, "no end was reported late"
        assert under_way.fleet.drops > 0, "nobody was told that the node has lost its lease"

        lost_before = await recorded(database_url, "connection.lost")
        await asyncio.to_thread(goes.kill_everything)
        await under_way.settled(60)
        assert await recorded(database_url, "connection.lost") == lost_before + CLIENTS
    beside.assert_served_in_time()
    assert_nothing_is_wrong(await examiner.examine_all(30))


async def fenced_epochs(url: str) -> int:
    """How many incarnations of nodes were given up."""
    connection = await asyncpg.connect(url)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM node_lease WHERE fenced_at IS NOT NULL")
    finally:
        await connection.close()
    return count


@pytest.mark.timeout(900)
async def test_an_outage_of_postgres_costs_no_node_its_lease_though_the_reaper_is_back_before_it(
    serve: Serve, tmp_path: Path
) -> None:
    """Ended and not frozen: what a frozen server had been asked for it still does, renewals of leases too."""
    lease = 15.0 if FULL else 2.5
    with EmbeddedPostgres(tmp_path / "postgres", settings={"fsync": "off"}) as server:
        url = server.start()
        service = serve("--workers", "2", DATABASE_URL=url, PULSETRAIL_NODE_LEASE=str(lease))
        await asyncio.to_thread(service.start)
        async with load(service, tmp_path / "clients.jsonl", 500 if FULL else 50, 10.0) as under_way:
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(1.5 * lease)
            with gateways_frozen(service):
                await asyncio.to_thread(server.start)
                await asyncio.sleep(0.3 * lease)
            await asyncio.sleep(lease)
        assert not under_way.fleet.drops, f"{under_way.fleet.drops} connections were dropped"
        assert await recorded(url, "connection.lost") == 0
        assert await fenced_epochs(url) == 0
        assert_nothing_is_wrong(await under_way.examiner.examine_all(30, rebuilt=("connections",)))
        await asyncio.to_thread(service.stop)


@pytest.mark.timeout(900)
async def test_three_leases_without_postgres_go_unnoticed_at_fifty_handshakes_a_second(
    serve: Serve, tmp_path: Path
) -> None:
    lease = 15.0 if FULL else 2.0
    service = serve("--workers", "2", PULSETRAIL_NODE_LEASE=str(lease))
    await asyncio.to_thread(service.start)
    async with load(service, tmp_path / "clients.jsonl", 1_000 if FULL else 300, 50.0) as under_way:
        await asyncio.sleep(lease)
        before = under_way.fleet.welcomes
        with postgres_frozen(service.postgres_pid()):
            await asyncio.sleep(3 * lease)
        handshakes = (under_way.fleet.welcomes - before) / (3 * lease)
    under_way.assert_nobody_noticed()
    assert handshakes > 45, f"{handshakes:.0f} handshakes a second were made while Postgres was away"
    assert await recorded(service.database_url, "connection.lost") == 0
    assert_nothing_is_wrong(await under_way.examiner.examine_all(60))
    tell(
        f"three leases ({3 * lease:g} s) without Postgres: {handshakes:.0f} handshakes a second, the slowest "
        f"{under_way.fleet.slowest_welcome:.2f} s; at most {under_way.fleet.longest_silence:.2f} s between heartbeats "
        f"of {HEARTBEAT:g} s"
    )
