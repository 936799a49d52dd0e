"""What was measured and what it says: pure, without clocks, files or processes.

A *series* holds one value a round, for one contestant, one case (a batch size, say; often there is just one) and one
figure. Comparisons are paired by round: what slowed the machine down in a round slowed both sides of its ratio.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import msgspec

FORMAT = 1
"""Version of the JSON form of ``Outcome``."""


class Figure(msgspec.Struct, frozen=True):
    """One thing that is measured of every contestant, such as ``rate`` in ``messages/s``."""

    key: str
    title: str
    unit: str
    better: Literal["higher", "lower"] = "higher"


class Asked(msgspec.Struct, frozen=True):
    """A bound that ``of`` has to reach in a figure: as a multiple of ``against``, or absolute when that is ``None``.

    Whether the bound is a least or a most follows from which direction of the figure is better.
    """

    figure: str
    bound: float
    against: str | None = None
    of: str = "pulsetrail"
    case: str = ""


class Series(msgspec.Struct, frozen=True):
    """The values of one contestant by round; ``None`` where there is no figure."""

    contestant: str
    figure: str
    values: tuple[float | None, ...]
    case: str = ""


class Machine(msgspec.Struct, frozen=True):
    """What it ran on; ``versions`` by the name of the program or package."""

    kernel: str
    cpu: str
    cores: int
    memory_bytes: int
    versions: dict[str, str]


class Outcome(msgspec.Struct, frozen=True):
    """One workload's run."""

    workload: str
    title: str
    contestants: tuple[str, ...]
    figures: tuple[Figure, ...]
    asked: tuple[Asked, ...]
    series: tuple[Series, ...]
    notes: tuple[str, ...]
    """What a reader has to know of this run: sizes that were cut down, contestants that are missing."""
    refusals: tuple[str, ...]
    """Why values are missing, such as a load generator that was the bottleneck."""
    size: str
    rounds: int
    command: str
    started_at: str
    """ISO 8601, UTC."""
    seconds: float
    machine: Machine
    format: int = FORMAT

    def values(self, contestant: str, figure: str, case: str = "") -> tuple[float | None, ...]:
        """One series' values; empty when there is none."""
        for one in self.series:
            if (one.contestant, one.figure, one.case) == (contestant, figure, case):
                return one.values
        return ()

    def cases(self) -> list[str]:
        """The cases in the order in which they were measured."""
        return list(dict.fromkeys(one.case for one in self.series))


class Summary(msgspec.Struct, frozen=True):
    """The median of some values, and how far they lie apart."""

    median: float
    low: float
    high: float
    count: int


class Verdict(StrEnum):
    """How a measured value stands to the bound that was asked."""

    REACHED = "reached"
    NOT_REACHED = "not reached"
    BELOW_HALF = "below half"
    NO_FIGURE = "no figure"


class Judgement(msgspec.Struct, frozen=True):
    """A bound, what was measured of it (a ratio, or the figure itself), and the verdict."""

    asked: Asked
    figure: Figure
    measured: Summary | None
    verdict: Verdict


def summary(values: Sequence[float | None]) -> Summary | None:
    """Median, least and greatest of the values that there are; ``None`` when there are none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Summary(statistics.median(known), min(known), max(known), len(known))


def ratios(ours: Sequence[float | None], theirs: Sequence[float | None]) -> list[float | None]:
    """Ours divided by theirs, round by round; ``None`` where either is missing or theirs is 0."""
    return [
        mine / other if mine is not None and other is not None and other != 0 else None
        for mine, other in zip(ours, theirs, strict=False)
    ]


def judge(outcome: Outcome) -> list[Judgement]:
    """Each bound of a workload with its verdict."""
    figures = {figure.key: figure for figure in outcome.figures}
    return [_judged(outcome, asked, figures[asked.figure]) for asked in outcome.asked]


def _judged(outcome: Outcome, asked: Asked, figure: Figure) -> Judgement:
    ours = outcome.values(asked.of, asked.figure, asked.case)
    if asked.against is None:
        measured = summary(ours)
    else:
        measured = summary(ratios(ours, outcome.values(asked.against, asked.figure, asked.case)))
    if measured is None:
        return Judgement(asked, figure, None, Verdict.NO_FIGURE)
    return Judgement(asked, figure, measured, verdict(measured.median, asked.bound, figure.better))


def verdict(measured: float, bound: float, better: Literal["higher", "lower"]) -> Verdict:
    """``below half`` is less than half of what was asked, or, where less is better, more than twice."""
    if better == "higher":
        reached, half = measured >= bound, measured >= bound / 2
    else:
        reached, half = measured <= bound, measured <= bound * 2
    return Verdict.REACHED if reached else Verdict.NOT_REACHED if half else Verdict.BELOW_HALF
