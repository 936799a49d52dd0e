"""What a long run's samples say: is everything flat? Pure.

A figure is flat when the straight line through its samples rises by no more than its bound over the time that is
judged. The bounds are small beside what a leak would be: forty thousand connections come and go in twenty
minutes, so that 2 % of a hundred megabytes is fifty bytes of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Final

import msgspec

SETTLED_AFTER: Final = 1 / 3
"""Share of a run after which everything has to be flat: ten minutes of thirty."""
KEPT_SECONDS: Final = 16 * 60.0
"""The journal keeps what is shipped for a quarter of an hour: before that it can only grow."""


class Sample(msgspec.Struct, frozen=True):
    """One process at one moment; ``None`` where it has no such figure."""

    seconds: float
    """Since every client was connected."""
    process: str
    memory_bytes: int
    """Resident; of Postgres without what its processes share."""
    descriptors: int
    cpu_seconds: float
    tasks: float | None = None
    journal_bytes: float | None = None
    journal_rows: float | None = None


class Figure(msgspec.Struct, frozen=True):
    """One column of the samples, and how much it may rise."""

    key: str
    title: str
    unit: str
    scale: float
    """Divides the samples' values for people."""
    rise: float
    """As a share of the mean."""
    at_least: float
    """Allowed in any case, in the unit for people."""
    not_before: float = 0.0
    """Seconds before which it is not judged, however short the run."""


FIGURES: Final = (
    Figure("memory_bytes", "resident memory", "MiB", 2**20, 0.02, 1.0),
    Figure("descriptors", "descriptors", "", 1, 0.02, 5),
    Figure("tasks", "tasks", "", 1, 0.0, 3),
    Figure("journal_bytes", "journal on disk", "MiB", 2**20, 0.05, 0.5, KEPT_SECONDS),
    Figure("journal_rows", "events not shipped", "", 1, 0.0, 50),
)
SHOWN_ONLY: Final = ("postgres",)
"""Processes that are shown and not judged: they are not ours, and their caches fill as their settings say."""


class Trend(msgspec.Struct, frozen=True):
    """One figure of one process over the time that was judged, in the figure's unit."""

    process: str
    figure: str
    since: float
    """Seconds at which the judged time begins."""
    mean: float
    rise: float
    """Of the fitted line, over the judged time."""
    bound: float
    is_judged: bool

    @property
    def is_flat(self) -> bool:
        return not self.is_judged or self.rise <= self.bound


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through the points that is nearest to them (least squares); 0 for less than two places.

    >>> slope([(0, 1), (1, 3), (2, 5)])
    2.0
    """
    if not points:
        return 0.0
    middle_x, middle_y = fmean(x for x, _ in points), fmean(y for _, y in points)
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def trends(samples: Sequence[Sample], seconds: float) -> list[Trend]:
    """Every figure of every process of a run that lasted so long."""
    found = []
    for process in dict.fromkeys(sample.process for sample in samples):
        for figure in FIGURES:
            since = max(seconds * SETTLED_AFTER, figure.not_before)
            points = [
                (sample.seconds, value / figure.scale)
                for sample in samples
                if sample.process == process and (value := getattr(sample, figure.key)) is not None
            ]
            judged = [point for point in points if point[0] >= since]
            if not points:
                continue
            judged_seconds = max(seconds - since, 0.0)
            mean = fmean(value for _, value in judged or points)
            found.append(
                Trend(
                    process=process,
                    figure=figure.key,
                    since=since,
                    mean=mean,
                    rise=slope(judged) * judged_seconds,
                    bound=max(figure.rise * mean, figure.at_least),
                    is_judged=process not in SHOWN_ONLY and len(judged) > 2,
                )
            )
    return found


def cpu_shares(samples: Sequence[Sample], since: float) -> dict[str, float]:
    """Cores that each process kept busy from ``since`` on; a restart does not count."""
    shares = {}
    for process in dict.fromkeys(sample.process for sample in samples):
        mine = [sample for sample in samples if sample.process == process and sample.seconds >= since]
        used = sum(max(after.cpu_seconds - before.cpu_seconds, 0.0) for before, after in pairwise(mine))
        if len(mine) > 1:
            shares[process] = used / (mine[-1].seconds - mine[0].seconds)
    return shares


def rows_of(found: Sequence[Trend]) -> list[list[str]]:
    """The trends as a table's rows: process, figure, mean, rise, bound, verdict."""
    titles = {figure.key: figure for figure in FIGURES}
    rows = []
    for trend in found:
        figure = titles[trend.figure]
        verdict = "not judged" if not trend.is_judged else "flat" if trend.is_flat else "RISES"
        rows.append(
            [
                trend.process,
                f"{figure.title}{f', {figure.unit}' if figure.unit else ''}",
                f"{trend.mean:,.1f}",
                f"{trend.rise:+,.2f}",
                f"{trend.bound:,.2f}" if trend.is_judged else "",
                f"{trend.since / 60:.0f} min",
                verdict,
            ]
        )
    return rows


COLUMNS: Final = ("process", "figure", "mean", "rise", "allowed", "judged from", "")
