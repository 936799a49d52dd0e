"""The gateway of the tests; see ``gateway_runner``, which pytest finds beside this file."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateway_runner import Start, starter


@pytest.fixture
def gateway(tmp_path: Path) -> Start:
    """``async with gateway(heartbeat_interval=0.5, ...) as running``."""
    return starter(tmp_path)
