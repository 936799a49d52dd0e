"""``docs/performance.md``: the text is written by hand, what is between its markers is written from results.

``<!-- bench:asked -->`` begins the table of everything that was asked, ``<!-- bench:B3 -->`` what was measured of a
workload; ``<!-- /bench -->`` ends either.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.results import Outcome
from bench.stage import BenchError
from bench.tables import asked_table, machine_line, measured_table, versions_line

_BLOCK = re.compile(r"<!-- bench:(\w+) -->\n.*?<!-- /bench -->", re.DOTALL)


def filled(page: str, blocks: Mapping[str, str]) -> str:
    """The page with each marked block replaced; what has no result says so.

    Raises:
        BenchError: a result has no place on the page.
    """
    places = [found[1] for found in _BLOCK.finditer(page)]
    for name in blocks:
        if name not in places:
            raise BenchError(f"The page has no place for {name}: add <!-- bench:{name} --> and <!-- /bench -->.")

    def block(found: re.Match[str]) -> str:
        return f"<!-- bench:{found[1]} -->\n{blocks.get(found[1], 'Not measured yet.')}\n<!-- /bench -->"

    return _BLOCK.sub(block, page)


def write_report(outcomes: Sequence[Outcome], results: Path, page: Path) -> None:
    """Fill the page from the outcomes, and put their plots from the folder ``results`` beside it."""
    plots = page.with_suffix("")
    plots.mkdir(exist_ok=True)
    blocks = {"asked": _everything_asked(outcomes)}
    for outcome in outcomes:
        drawn = results / f"{outcome.workload}.svg"
        if drawn.exists():
            shutil.copyfile(drawn, plots / drawn.name)
        picture = f"![{outcome.workload}]({plots.name}/{drawn.name})" if drawn.exists() else ""
        blocks[outcome.workload] = _section(outcome, picture)
    page.write_text(filled(page.read_text(encoding="utf-8"), blocks), encoding="utf-8")


def _everything_asked(outcomes: Sequence[Outcome]) -> str:
    machines = dict.fromkeys(machine_line(outcome.machine) for outcome in outcomes)
    parts = [
        asked_table(outcomes, link="#{id}"),
        *(f"Machine: {machine}." for machine in machines),
        f"Versions: {versions_line(outcomes)}.",
    ]
    return "\n\n".join(parts)


def _section(outcome: Outcome, picture: str) -> str:
    told = "\n".join(f"- {text}" for text in (*outcome.notes, *outcome.refusals))
    when = f"{outcome.started_at[:10]}, {outcome.rounds} rounds in {outcome.seconds:.0f} s: `{outcome.command}`"
    return "\n\n".join(part for part in (measured_table(outcome), picture, told, when) if part)
