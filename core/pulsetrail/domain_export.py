"""Exports the domain's figures from one projector at a time.

Any number of projectors may run; the one that holds the metrics lock (a session's advisory lock, so it goes with the
connection, however that ends) reads the figures once a second and puts them into its snapshot. The others, and one
whose database is away, export none: no figure is better than one that stands still.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

import asyncpg

from pulsetrail.domain_metrics import domain_families
from pulsetrail.metrics_snapshot import SnapshotWriter
from pulsetrail.projections.figures import figures
from pulsetrail.projections.runner import CONNECTION_ERRORS
from pulsetrail.statements import load_statements

INTERVAL_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 2.0
_TIMEOUT_SECONDS: Final = 10.0

_SQL: Final = load_statements("pulsetrail", "domain_export.sql")

logger = logging.getLogger("pulsetrail.projector")


async def export_domain(url: str, writer: SnapshotWriter, *, interval: float = INTERVAL_SECONDS) -> None:
    """Keep ``writer`` supplied with the figures until cancelled, whenever it is this process's turn."""
    while True:
        try:
            await _export(url, writer, interval)
        except (*CONNECTION_ERRORS, asyncpg.PostgresError) as error:
            logger.debug("the domain's figures were not read: %s", error)
        finally:
            writer.publish(None)
        await asyncio.sleep(RETRY_SECONDS)


async def _export(url: str, writer: SnapshotWriter, interval: float) -> None:
    """Over one connection, until it fails."""
    connection = await asyncpg.connect(
        url,
        timeout=_TIMEOUT_SECONDS,
        command_timeout=_TIMEOUT_SECONDS,
        server_settings={"application_name": "pulsetrail metrics"},
    )
    try:
        while not await connection.fetchval(_SQL["try_metrics_lock"]):  # noqa: ASYNC110 - the lock is the database's
            await asyncio.sleep(interval)
        while True:
            writer.publish(domain_families(await figures(connection)))
            await asyncio.sleep(interval)
    finally:
        with contextlib.suppress(*CONNECTION_ERRORS):
            await connection.close(timeout=1)
