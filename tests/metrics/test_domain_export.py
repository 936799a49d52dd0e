import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from prometheus_client import CollectorRegistry

from pulsetrail.domain_export import export_domain
from pulsetrail.events import ConnectionClosed, ConnectionOpened, Event, Evidence, encode_payload, now_us
from pulsetrail.log import Batch
from pulsetrail.log.postgres import PostgresLog
from pulsetrail.metrics_snapshot import SnapshotReader, SnapshotWriter
from pulsetrail.projections.runner import Projector, connect_pool

OPENED = "ws_updates_connections_opened_total"


def connection_events(closed: bool) -> list[Event]:
    """A connection of one node, open or ended by a reset."""
    connection_id, client, now = uuid4(), uuid4(), now_us()

    def event(kind: str, seq: int, payload: bytes, reason: str | None = None) -> Event:
        return Event(
            event_id=uuid4(),
            event_type=kind,
            schema_version=1,
            source="gateway",
            occurred_at=now + seq,
            received_at=now + seq,
            shard=0,
            connection_id=connection_id,
            connection_seq=seq,
            node_id="otter-0",
            node_epoch=now,
            client_ref=client,
            page_id="page",
            reason=reason,
            payload=payload,
        )

    events = [event("connection.opened", 1, encode_payload(ConnectionOpened()))]
    if closed:
        end = ConnectionClosed(
            initiator="unknown",
            phase="open",
            was_clean=False,
            duration_ms=1500,
            classifier_version=1,
            evidence=Evidence(),
        )
        events.append(event("connection.closed", 2, encode_payload(end), "peer_reset"))
    return events


@asynccontextmanager
async def exporting(url: str, directory: Path, name: str) -> AsyncIterator[None]:
    """A process that exports the domain when it is its turn."""
    writer = SnapshotWriter(directory, name, CollectorRegistry(), interval=0.05)
    tasks = [asyncio.create_task(writer.run()), asyncio.create_task(export_domain(url, writer, interval=0.05))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(reader: SnapshotReader, expected: str) -> str:
    """The scrape that holds ``expected``."""
    text = ""
    for _ in range(400):
        text = reader.render("")[0].decode()
        if expected in text:
            return text
        await asyncio.sleep(0.05)
    raise AssertionError(f"{expected} never came: {text}")


async def test_the_folded_figures_are_exported_once_and_by_the_next_projector_when_the_first_is_gone(
    postgres_log: PostgresLog, database_url: str, tmp_path: Path
) -> None:
    events = [*connection_events(closed=True), *connection_events(closed=True), *connection_events(closed=False)]
    await postgres_log.append(Batch(0, uuid4(), 1, events, now_us()))
    pool = await connect_pool(database_url)
    folding = asyncio.create_task(Projector(pool).run())
    reader = SnapshotReader(tmp_path)
    try:
        async with exporting(database_url, tmp_path, "projector-0"):
            text = await until(reader, f"{OPENED} 3.0")
            text = await until(reader, 'ws_updates_clients{node="otter-0"} 1.0')
            async with exporting(database_url, tmp_path, "projector-1"):
                text = await until(reader, f"{OPENED} 3.0")
                assert sum(snapshot.domain is not None for snapshot in reader.snapshots()) == 1
        async with exporting(database_url, tmp_path, "projector-1"):
            text = await until(reader, f"{OPENED} 3.0")
    finally:
        folding.cancel()
        await asyncio.gather(folding, return_exceptions=True)
        await pool.close()
    assert 'ws_updates_disconnections_total{initiator="unknown",reason="peer_reset"} 2.0' in text
    assert "ws_updates_connection_duration_seconds_count 2.0" in text
    assert "ws_updates_connection_duration_seconds_sum 3.0" in text
    assert text.count(f"\n{OPENED} ") == 1
