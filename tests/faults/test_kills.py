"""F1: whatever is killed, whenever: nothing that a client has seen is lost, nothing doubled, each connection ends once.

``make faults`` runs ``CYCLES`` kills in one data directory: at each armed point with each set of victims once, the rest
at random. ``make test`` runs a few of them. The points that have a negative control are tried by themselves.
"""

from __future__ import annotations

import random
import time
from itertools import product
from pathlib import Path

import pytest
from armed.sitecustomize import EVERYTHING, GROUP, POINTS, SELF
from examination import assert_nothing_is_wrong
from kill_trials import (
    BY_NAME,
    VICTIMS,
    Kill,
    kill_at,
    kill_at_random,
    kill_during_an_orderly_end,
    kill_everything_behind_a_frozen_postgres,
    trial,
)
from sizes import FULL, seed_of_the_run, tell

CYCLES = 200 if FULL else 3
CLIENTS = 60 if FULL else 30
MOST_WORKERS = 3
LOOK_AT_EVERYTHING = 50
"""Cycles between two looks at all there is, the last one apart."""


WITH_A_CONTROL = [
    pytest.param("before a batch's commit", GROUP, id="telemetry"),
    pytest.param("between append and its acknowledgement", EVERYTHING, id="append"),
    pytest.param("before an opening's commit", SELF, id="opening"),
    pytest.param("between two commits of a recovery", SELF, id="recovery"),
    pytest.param("between checkpoint and commit", SELF, id="fold"),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("point", "victims"), WITH_A_CONTROL if FULL else WITH_A_CONTROL[:2])
async def test_a_kill_at_a_point_breaks_no_promise(tmp_path: Path, point: str, victims: int) -> None:
    # A lease that outlasts the test: what the restart owes, no reaper makes good.
    async with trial(tmp_path, clients=20, lease=120.0) as one:
        assert await one.kill_at(BY_NAME[point], victims), "no process got there"
        await one.recover()
        assert_nothing_is_wrong(await one.findings())
        assert_nothing_is_wrong(await one.verdict())


def schedule(rng: random.Random) -> list[Kill]:
    """The kills of a run, shuffled: as many of the armed ones as there is room for in four fifths, the rest random."""
    armed = [kill_at(point, victims) for point, victims in product(POINTS, VICTIMS)]
    rng.shuffle(armed)
    chosen = armed[: CYCLES * 4 // 5]
    others = [kill_at_random, kill_at_random, kill_during_an_orderly_end, kill_everything_behind_a_frozen_postgres]
    chosen += [others[number % len(others)] for number in range(CYCLES - len(chosen))]
    rng.shuffle(chosen)
    return chosen


@pytest.mark.timeout(60 + 60 * CYCLES)
async def test_a_service_that_is_killed_again_and_again_keeps_its_promises(tmp_path: Path) -> None:
    seed = seed_of_the_run()
    rng = random.Random(seed)
    began = time.monotonic()
    missed: list[str] = []
    async with trial(tmp_path, clients=CLIENTS, seed=seed) as one:
        for number, kill in enumerate(schedule(rng), 1):
            started = time.monotonic()
            what, done = await kill(one, rng)
            killed = time.monotonic()
            await one.recover(rng.randint(1, MOST_WORKERS))
            findings = await one.findings()
            if number % LOOK_AT_EVERYTHING == 0:
                async with one.fleet.quiet():
                    findings += await one.examiner.examine_all(60)
            missed += [] if done else [what]
            tell(
                f"{number:4d} of {CYCLES}: {what}{'' if done else ' (nobody got there)'}, {killed - started:.1f} s; "
                f"back and judged in {time.monotonic() - killed:.1f} s with {one.workers} workers; "
                f"{one.examiner.connections} connections, {one.examiner.events} events, {len(findings)} findings"
            )
            assert_nothing_is_wrong(findings, f"cycle {number}, {what}; again with FAULTS_SEED={seed}")
        assert_nothing_is_wrong(await one.verdict(60), f"after all cycles; again with FAULTS_SEED={seed}")
        tell(
            f"{CYCLES} kills in {time.monotonic() - began:.0f} s, seed {seed}: {one.examiner.connections} connections, "
            f"{one.examiner.events} events; nothing lost, doubled or without its end"
        )
    assert not missed, f"nobody got to: {missed}"
