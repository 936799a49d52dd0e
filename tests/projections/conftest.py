"""A projector on a database of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from pulsetrail.projections.runner import Projector, connect_pool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with await connect_pool(database_url) as opened:
        yield opened


@pytest.fixture
def projector(pool: asyncpg.Pool) -> Projector:
    return Projector(pool)


@pytest.fixture
async def owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of who may do anything."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
