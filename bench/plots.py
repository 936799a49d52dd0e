"""One picture a workload: every contestant's median as a bar, its rounds as dots."""

from __future__ import annotations

from pathlib import Path

from bench.results import Figure, Outcome, summary
from bench.tables import number

_WIDE = 20
"""Times the least median above which the greatest is shown on a logarithmic scale, or the least would not be seen."""

_COLOURS = {True: "#2f6fde", False: "#b8bec9"}


def plot(outcome: Outcome, path: Path) -> bool:
    """Write the picture as SVG; ``False`` when there is nothing to show.

    Raises:
        ImportError: matplotlib is not installed (``make bench`` installs it).
    """
    # Imported here: it takes a second, and only `make bench` installs it.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figures = [figure for figure in outcome.figures if _rows(outcome, figure)]
    if not figures:
        return False
    tallest = max(len(_rows(outcome, figure)) for figure in figures)
    # Paths, not fonts of this machine, and no date: the same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": outcome.workload, "font.size": 9}):
        picture, axes = pyplot.subplots(
            1, len(figures), figsize=(4.2 * len(figures), 0.9 + 0.36 * tallest), squeeze=False, layout="constrained"
        )
        for axis, figure in zip(axes[0], figures, strict=True):
            rows = _rows(outcome, figure)
            medians = [found.median for _, _, values in rows if (found := summary(values)) is not None]
            if min(medians) > 0 and max(medians) / min(medians) > _WIDE:
                axis.set_xscale("log")
                axis.set_xlim(min(medians) / 3, max(medians) * 30)  # room for the numbers
            else:
                axis.set_xlim(0, max(max(values) for _, _, values in rows) * 1.35 or 1)
            for place, (_, ours, values) in enumerate(rows):
                found = summary(values)
                assert found is not None  # noqa: S101 - rows without values are left out
                axis.barh(place, found.median, color=_COLOURS[ours], height=0.62)
                axis.plot(values, [place] * len(values), "|", color="#222222", markersize=7)
                axis.text(found.high, place, f"  {number(found.median)}", va="center", fontsize=8)
            axis.set_yticks(range(len(rows)), [label for label, _, _ in rows])
            axis.invert_yaxis()
            axis.set_title(f"{figure.title} ({figure.unit}), {figure.better} is better", fontsize=9, loc="left")
            axis.spines[["top", "right"]].set_visible(False)
        picture.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(picture)
    return True


def _rows(outcome: Outcome, figure: Figure) -> list[tuple[str, bool, list[float]]]:
    """Label, whether it is ours, and the values of each contestant and case that has this figure."""
    rows = []
    for case in outcome.cases():
        for contestant in outcome.contestants:
            values = [value for value in outcome.values(contestant, figure.key, case) if value is not None]
            if values:
                label = f"{contestant}, {case}" if case else contestant
                rows.append((label, contestant.startswith("pulsetrail"), values))
    return rows
