"""The projector's process: folds, and whatever else looks after the log, until SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Sequence

import asyncpg
from prometheus_client import CollectorRegistry

from pulsetrail.cli.database import find_database
from pulsetrail.cli.http_process import beside, logging_to_stdout
from pulsetrail.datadir import DataDir
from pulsetrail.domain_export import export_domain
from pulsetrail.errors import PulsetrailError
from pulsetrail.log.connections import BROKEN
from pulsetrail.log.partitions import ensure_partitions, partitions_ahead, retain
from pulsetrail.log.postgres import PostgresLog
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.metrics_snapshot import SnapshotWriter, sample_loop
from pulsetrail.migrate import check_schema
from pulsetrail.orphans import OrphanKeeper
from pulsetrail.projections.balances import carry_forward
from pulsetrail.projections.reaper import Reaper
from pulsetrail.projections.runner import Projector, connect_pool
from pulsetrail.settings import Settings
from pulsetrail.supervisor import write_state

NAME = "projector"
PARTITIONS_SECONDS = 3600.0

logger = logging.getLogger("pulsetrail.projector")


async def run_projector(settings: Settings) -> None:
    """Fold the projections, end what lost nodes left open, keep partitions ahead, ship journals that nobody owns.

    Raises:
        SchemaMismatch: the database is not migrated, or by another version.
        LogUnavailable: the database cannot be reached at the start.
    """
    data = DataDir(settings.data_dir)
    node_id = f"{data.node_name(settings.node_name)}-{NAME}"
    url = find_database(settings)
    metrics = PipelineMetrics(CollectorRegistry())
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    with logging_to_stdout(settings, NAME, node_id, metrics):
        await check_schema(url, shards=settings.log_shards)
        async with contextlib.AsyncExitStack() as stack:
            log = PostgresLog(url, application_name=f"pulsetrail {NAME}", observer=metrics)
            stack.push_async_callback(log.close)
            pool = await connect_pool(url)
            stack.push_async_callback(pool.close)
            writer = SnapshotWriter(data.metrics, NAME, metrics.registry)
            orphans = OrphanKeeper(
                data.journals,
                log,
                exclude=[f"gateway-{index}" for index in range(settings.workers)],
                sync=settings.journal_sync,
                max_bytes=settings.journal_max_bytes,
                observer=metrics,
            )
            reaper = Reaper(pool, lease_seconds=settings.node_lease)
            projector = Projector(pool, wait=log.wait, observer=metrics)
            parts = [
                projector.run(),
                reaper.run(),
                export_domain(url, writer),
                orphans.run(),
                _keep_partitions(url, pool, settings, metrics),
                writer.run(),
                sample_loop(metrics),
            ]
            tasks = await stack.enter_async_context(beside(*parts))
            write_state(data.run / f"{NAME}.json")
            await _first_of(told, tasks)


async def _first_of(told: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Wait for SIGTERM. A part that stops by itself is a bug: the process ends with it, and is started again."""
    waiting = asyncio.create_task(told.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done:
        await task


async def _keep_partitions(url: str, pool: asyncpg.Pool, settings: Settings, metrics: PipelineMetrics) -> None:
    """Once an hour: partitions for the days ahead, and none for the days that retention lets go."""
    while True:
        try:
            await ensure_partitions(url)
            metrics.partitions_measured(await partitions_ahead(url))
            async with pool.acquire() as connection:
                await carry_forward(connection, days=settings.retention_days)
            retained = await retain(url, days=settings.retention_days, archive=settings.archive_dir)
        except (PulsetrailError, *BROKEN) as error:
            logger.warning("the partitions are not looked after: %s", error)
        else:
            if retained.dropped:
                logger.info("dropped after %d days: %s", settings.retention_days, ", ".join(retained.dropped))
            if retained.needed_by:
                logger.warning("old partitions stay, needed by: %s", ", ".join(retained.needed_by))
        await asyncio.sleep(PARTITIONS_SECONDS)
