"""F1 in small: a real process records, acknowledges and is killed; nothing acknowledged may be missing."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from journal_events import take_all

from pulsetrail.events import Event
from pulsetrail.journal import Journal

CHILD = Path(__file__).with_name("journal_child.py")
CYCLES = 12


class Account(NamedTuple):
    """What the clients of a killed process know."""

    attempted: set[str]
    acknowledged: set[str]


def run_until_killed(path: Path, mode: str, acknowledgements: int, *, kill_after: float | None = None) -> Account:
    """Run the child to its death, by its own hand after so many acknowledgements or by ours after so many seconds."""
    command = [sys.executable, str(CHILD), str(path), mode, str(acknowledgements)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = [child.stdout.readline()]  # the first attempt: it runs
        if kill_after is not None:
            timer = threading.Timer(kill_after, child.kill)
            timer.start()
        lines += child.stdout.readlines()
    assert child.returncode == -9, f"the child ended with {child.returncode} before it was killed"
    words = [line.split() for line in lines if line.endswith("\n")]
    return Account(
        {event_id for word, event_id in words if word == "attempt"},
        {event_id for word, event_id in words if word == "ack"},
    )


def faults(account: Account, stored: list[Event]) -> dict[str, int]:
    """The checker: what was acknowledged and is not stored, stored and never attempted, or stored twice."""
    counts = Counter(str(event.event_id) for event in stored if event.event_type != "connection.lost")
    return {
        "lost": len(account.acknowledged - counts.keys()),
        "phantom": len(counts.keys() - account.attempted),
        "doubled": sum(count - 1 for count in counts.values()),
    }


def ends_per_connection(stored: list[Event]) -> Counter[str]:
    opened = {str(event.connection_id) for event in stored if event.event_type == "connection.opened"}
    ends = Counter(
        str(event.connection_id) for event in stored if event.event_type in ("connection.closed", "connection.lost")
    )
    return Counter({connection: ends[connection] for connection in opened | ends.keys()})


def self_killed(path: Path, rng: random.Random) -> Account:
    return run_until_killed(path, "honest", rng.randint(1, 300))


def killed_from_outside(path: Path, rng: random.Random) -> Account:
    return run_until_killed(path, "honest", 1_000_000, kill_after=rng.uniform(0.0, 0.15))


@pytest.mark.parametrize("kill", [self_killed, killed_from_outside])
async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(
    tmp_path: Path, kill: Callable[[Path, random.Random], Account]
) -> None:
    rng = random.Random(20_250_101)
    path = tmp_path / "gateway-0.sqlite"
    attempted, acknowledged = set[str](), set[str]()
    for _ in range(CYCLES):
        account = kill(path, rng)
        attempted |= account.attempted
        acknowledged |= account.acknowledged
    async with Journal.open(path) as journal:
        assert journal.damaged is None
        await journal.recover()
        stored = await take_all(journal)
    assert acknowledged, "the children acknowledged nothing, so nothing was tested"
    assert faults(Account(attempted, acknowledged), stored) == {"lost": 0, "phantom": 0, "doubled": 0}
    assert set(ends_per_connection(stored).values()) == {1}, "a connection has no end, or two"


async def test_the_check_catches_a_journal_that_acknowledges_before_its_commit(tmp_path: Path) -> None:
    path = tmp_path / "gateway-0.sqlite"
    account = run_until_killed(path, "early", 1)
    async with Journal.open(path) as journal:
        stored = await take_all(journal)
    assert faults(account, stored)["lost"] > 0
