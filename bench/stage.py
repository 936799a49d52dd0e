"""What a workload gets to work with: its size, whose turn it is, and where its figures go."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from bench.machine import this_machine
from bench.results import Asked, Figure, Outcome, Series

BUILD = Path(__file__).parents[1] / "build" / "bench"
"""What is compiled or fetched for the benchmarks, and kept for the next run."""


class BenchError(Exception):
    """A run cannot go on; the text is one sentence that says why and what to do."""


class Size(StrEnum):
    """``small`` only shows that everything runs: its figures mean nothing."""

    FULL = "full"
    SMALL = "small"


class Workload(NamedTuple):
    """A workload as its module declares it in ``WORKLOAD``.

    ``run`` measures all contestants, taking turns, and writes what it finds to the stage. The first of ``contestants``
    is the one that the others are compared with; those whose figures are only shown beside it are in the list too.
    """

    id: str
    title: str
    contestants: tuple[str, ...]
    figures: tuple[Figure, ...]
    asked: tuple[Asked, ...]
    run: Callable[[Stage], Coroutine[Any, Any, None]]


class Stage:
    """One run of one workload."""

    def __init__(
        self,
        workload: Workload,
        *,
        size: Size,
        rounds: int,
        only: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        """``only`` names the contestants that are measured; empty for all of them."""
        unknown = sorted(set(only) - set(workload.contestants))
        if unknown:
            raise BenchError(
                f"{workload.id} has no contestant {unknown[0]!r}; it has {', '.join(workload.contestants)}."
            )
        self.workload = workload
        self.size = size
        self.rounds = rounds
        self.contestants = [name for name in workload.contestants if not only or name in only]
        self.scratch = Path(tempfile.mkdtemp(prefix=f"pulsetrail-bench-{workload.id.lower()}-"))
        """A folder of this run's own, gone when it is over; anybody may enter it, as the embedded Postgres has to."""
        self.scratch.chmod(0o755)
        self._say = say
        self._began = time.monotonic()
        self._started_at = datetime.now(UTC)
        self._values: dict[tuple[str, str, str], list[float | None]] = {}
        self._versions: dict[str, str] = {}
        self._notes: dict[str, None] = {}
        self._refusals: list[str] = []

    def close(self) -> None:
        """Remove what the run left on disk."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    def scaled(self, full: int, small: int) -> int:
        """``full`` or ``small``, whichever the run's size is."""
        return full if self.size is Size.FULL else small

    def say(self, text: str) -> None:
        """Progress for whoever waits."""
        self._say(f"{self.workload.id} {time.monotonic() - self._began:5.0f} s  {text}")

    async def rest(self, what: Callable[[], Awaitable[None]] | float) -> None:
        """Wait between two measurements, so many seconds or until something is so; in small size there is nothing to
        wait for, because nothing is measured."""
        if self.size is Size.FULL:
            await (asyncio.sleep(what) if isinstance(what, float) else what())

    def turns(self, contestants: Sequence[str] | None = None) -> Iterator[tuple[int, str]]:
        """Each round with each contestant, in an order that changes from round to round: nobody is always the one that
        runs on a machine which the one before left warm."""
        for round_ in range(self.rounds):
            present = [name for name in contestants or self.contestants if name in self.contestants]
            first = round_ % max(1, len(present))
            for name in present[first:] + present[:first]:
                if name in self.contestants:
                    yield round_, name

    def miss(self, contestant: str, why: str) -> None:
        """A contestant cannot be measured here; the run goes on without it and says so."""
        self.contestants = [name for name in self.contestants if name != contestant]
        self.note(f"{contestant} was not measured: {why}")

    def record(self, contestant: str, round_: int, *, case: str = "", **figures: float) -> None:
        """What one turn gave, by the keys of the workload's figures."""
        known = {figure.key: figure for figure in self.workload.figures}
        for key, value in figures.items():
            self._series(contestant, known[key].key, case)[round_] = value
        shown = ", ".join(f"{known[key].title} {value:,.4g} {known[key].unit}" for key, value in figures.items())
        self.say(f"round {round_ + 1}/{self.rounds}  {contestant}{f' ({case})' if case else ''}: {shown}")

    def refuse(self, contestant: str, round_: int, why: str, *, case: str = "") -> None:
        """One turn gave no figure that counts."""
        for figure in self.workload.figures:
            self._series(contestant, figure.key, case)[round_] = None
        what = f"{contestant}{f' ({case})' if case else ''}, round {round_ + 1}: no figure, {why}"
        self._refusals.append(what)
        self.say(what)

    def note(self, text: str) -> None:
        """Something that a reader of the figures has to know."""
        if text not in self._notes:
            self._notes[text] = None
            self.say(text)

    def version(self, name: str, version: str) -> None:
        """What competed, for the list of versions."""
        self._versions[name] = version

    def _series(self, contestant: str, figure: str, case: str) -> list[float | None]:
        return self._values.setdefault((contestant, case, figure), [None] * self.rounds)

    def outcome(self, command: str) -> Outcome:
        """Everything that was measured."""
        load = os.getloadavg()[0]
        self.note(f"Load average at the end of the run: {load:.1f}.")
        return Outcome(
            workload=self.workload.id,
            title=self.workload.title,
            contestants=tuple(self.contestants),
            figures=self.workload.figures,
            asked=self.workload.asked,
            series=tuple(
                Series(contestant, figure, tuple(values), case)
                for (contestant, case, figure), values in self._values.items()
            ),
            notes=tuple(self._notes),
            refusals=tuple(self._refusals),
            size=self.size.value,
            rounds=self.rounds,
            command=command,
            started_at=self._started_at.isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._began, 1),
            machine=this_machine(self._versions),
        )
