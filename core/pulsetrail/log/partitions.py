"""Daily partitions: made ahead, dropped when retention lets them go."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import asyncpg

from pulsetrail.statements import load_statements

DAYS_AHEAD: Final = 7

_SQL: Final = load_statements(__package__, "queries.sql")


async def ensure_partitions(url: str, *, days_ahead: int = DAYS_AHEAD) -> int:
    """Make the partitions of today and the days ahead that are missing, each in a transaction of its own.

    Returns how many were made.
    """
    connection = await asyncpg.connect(url, timeout=10, command_timeout=30)
    try:
        today = await connection.fetchval(_SQL["utc_today"])
        return sum(
            [
                await connection.fetchval(_SQL["create_partition"], today + timedelta(days=offset))
                for offset in range(days_ahead + 1)
            ]
        )
    finally:
        await connection.close()
