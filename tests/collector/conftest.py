from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from collector_service import Service, Start, start_collector


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts a collector with the settings given; stops it with the test."""
    async with AsyncExitStack() as stack:
        yield partial(start_collector, stack, tmp_path)


@pytest.fixture
async def service(start: Start) -> Service:
    """A collector with default settings."""
    return await start()
