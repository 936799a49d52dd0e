"""F2: Postgres is killed, restarted, frozen and out of disk, and answers get lost: the service goes on meanwhile,
nothing is lost or doubled, and heartbeats keep time. Judged by the clients' own records."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import asyncpg
import httpx
import pytest
from examination import Examiner, assert_nothing_is_wrong
from load import load, recorded, until
from postgres_faults import SmallDisk, end, frozen, kill, kill_a_backend
from postgres_proxy import PostgresProxy
from service_runner import Service
from sizes import FULL

from conftest import Serve
from pulsetrail.embedded import EmbeddedPostgres

CLIENTS, HANDSHAKES = (1_000, 40.0) if FULL else (100, 20.0)
"""Handshakes a second."""
SECONDS = 10.0 if FULL else 1.0
"""How long a fault lasts, where it lasts."""
APPENDED = b"\0\0\0\x08appended"
"""An append's status on the wire, with its length: notifications, whose channel ends like it, are none."""


async def is_degraded(service: Service) -> bool:
    """Whether the service, which has to be ready, says that its log takes nothing."""
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{service.http}/readyz", timeout=5)
    assert answer.status_code == 200, f"the service is not ready: {answer.text}"
    return "log" in answer.json()["degraded"]


@pytest.mark.timeout(900)
async def test_nothing_is_lost_while_postgres_is_killed_and_restarted_and_frozen(serve: Serve, tmp_path: Path) -> None:
    service = serve("--workers", "2")
    await asyncio.to_thread(service.start)
    async with load(service, tmp_path / "clients.jsonl", CLIENTS, HANDSHAKES) as under_way:
        for fault in (kill, kill_a_backend, end):
            fault(service.postgres_pid())
            await asyncio.sleep(SECONDS)
            await under_way.settled(30)
        with frozen(service.postgres_pid()):
            await asyncio.sleep(3 * SECONDS)
        await under_way.settled(30)
    under_way.assert_nobody_noticed()
    assert await recorded(service.database_url, "connection.lost") == 0
    assert_nothing_is_wrong(await under_way.examiner.examine_all(30, rebuilt=("connections",)))


def make_cluster(directory: Path) -> None:
    with EmbeddedPostgres(directory):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="a file system of its own takes root to be mounted")
@pytest.mark.timeout(900)
async def test_nothing_is_lost_while_postgres_has_no_disk_left(serve: Serve, tmp_path: Path) -> None:
    disk = SmallDisk(tmp_path / "disk", 256)
    with disk.mounted():
        await asyncio.to_thread(make_cluster, disk.mount / "postgres")
        service = serve("--workers", "2")
        (service.data_dir / "postgres").symlink_to(disk.mount / "postgres")
        await asyncio.to_thread(service.start)
        async with load(service, tmp_path / "clients.jsonl", CLIENTS, HANDSHAKES) as under_way:
            owner = await asyncpg.connect(service.database_url)
            with disk.full():
                with pytest.raises((asyncpg.PostgresError, OSError)):
                    for _ in range(16):  # until no segment of the WAL is left; then the server panics
                        await owner.execute("SELECT pg_switch_wal(), pg_logical_emit_message(false, '', '')")
                await until(lambda: is_degraded(service), 15, "noticing the outage")
                await asyncio.sleep(SECONDS)
            owner.terminate()
            await under_way.settled(60)
        under_way.assert_nobody_noticed()
        assert await recorded(service.database_url, "connection.lost") == 0
        assert_nothing_is_wrong(await under_way.examiner.examine_all(30, rebuilt=("connections",)))
        await asyncio.to_thread(service.stop)


@pytest.mark.timeout(900)
async def test_answers_that_are_lost_after_the_commit_double_nothing(
    serve: Serve, tmp_path: Path, database_url: str
) -> None:
    async with PostgresProxy(database_url).running() as proxy:
        service = serve("--workers", "2", DATABASE_URL=proxy.url)
        await asyncio.to_thread(service.start)
        record = tmp_path / "clients.jsonl"
        examiner = Examiner(database_url, [record])  # by a way that nobody cuts
        async with load(service, record, CLIENTS, HANDSHAKES, examiner=examiner) as under_way:
            cut = 0
            limit = time.monotonic() + 3 * SECONDS
            while time.monotonic() < limit:
                proxy.cut_reply_with = APPENDED
                await asyncio.sleep(0.1)
                cut += proxy.cut_reply_with is None
            proxy.cut_reply_with = None
            assert cut >= 10 * SECONDS, "hardly an answer was cut off, so nothing was tested"
        under_way.assert_nobody_noticed()
        assert_nothing_is_wrong(await under_way.examiner.examine_all(30, rebuilt=("connections",)))
