"""F1: whatever is killed, whenever: nothing that a client has seen is lost, nothing doubled, each connection ends once.

``make faults`` runs ``CYCLES`` kills in one data directory: each armed point with each set of victims once, the rest at
random. ``make test`` runs some of them, and the points that have a negative control in services of their own.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from armed.sitecustomize import EVERYTHING, GROUP, SELF
from examination import assert_nothing_is_wrong
from kill_trials import (
    BY_NAME,
    trial,
)
from sizes import FULL

CYCLES = 200 if FULL else 4
CLIENTS = 60
MOST_WORKERS = 3


@pytest.mark.parametrize(
    ("point", "victims"),
    [
        pytest.param("before an opening's commit", SELF, id="opening"),
        pytest.param("before a batch's commit", GROUP, id="telemetry"),
        pytest.param("between append and its acknowledgement", EVERYTHING, id="append"),
        pytest.param("between two commits of a recovery", SELF, id="recovery"),
        pytest.param("between checkpoint and commit", SELF, id="fold"),
    ],
)
async def test_a_kill_at_a_point_breaks_no_promise(tmp_path: Path, point: str, victims: int) -> None:
    # A lease that outlasts the test: what the restart owes, no reaper makes good.
    async with trial(tmp_path, clients=20, lease=120.0) as one:
        assert await one.kill_at(BY_NAME[point], victims), "no process got there"
        await one.recover()
        assert_nothing_is_wrong(await one.findings())
        assert_nothing_is_wrong(await one.verdict())
