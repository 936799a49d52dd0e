from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from chaos_lab import Lab, running_lab


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """A server, and a proxy in front of it."""
    async with AsyncExitStack() as stack:
        yield await running_lab(stack)
