"""Results for people: a table on the terminal, the same in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from bench.results import Figure, Judgement, Machine, Outcome, Summary, Verdict, judge, ratios, summary

_STYLES = {
    Verdict.REACHED: "green",
    Verdict.NOT_REACHED: "yellow",
    Verdict.BELOW_HALF: "bold red",
    Verdict.NO_FIGURE: "dim",
}


def number(value: float) -> str:
    """Three significant digits at least, thousands apart, no exponent.

    >>> number(138_712.4), number(31.25), number(0.61234), number(0)
    ('138,712', '31.2', '0.612', '0')
    """
    if value == 0:
        return "0"
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:,.{decimals}f}"


def spread(found: Summary | None) -> str:
    """A median with the least and the greatest value, ``-`` for none."""
    if found is None:
        return "-"
    if found.count == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)} to {number(found.high)})"


def bound(judgement: Judgement) -> str:
    """What was asked, in words."""
    asked, figure = judgement.asked, judgement.figure
    sign = "≥" if figure.better == "higher" else "≤"
    case = f", {asked.case}" if asked.case else ""
    if asked.against is None:
        return f"{figure.title}{case}: {sign} {number(asked.bound)} {figure.unit}"
    return f"{figure.title}{case}: {sign} {number(asked.bound)} of {asked.against}"


def measured_columns(outcome: Outcome) -> list[str]:
    """Headings of ``measured_rows``: of each figure its value, and the first contestant's divided by it."""
    columns = ["contestant"]
    for figure in outcome.figures:
        columns += [f"{figure.title}, {figure.unit}", "ratio"]
    return columns


def measured_rows(outcome: Outcome) -> Iterator[list[str]]:
    """A row for each case and contestant that was measured."""
    cases = outcome.cases()
    for case in cases:
        for contestant in outcome.contestants:
            cells = [_cells(outcome, contestant, figure, case) for figure in outcome.figures]
            if any(value != "-" for value, _ in cells):
                yield [f"{contestant}, {case}" if case else contestant, *(cell for pair in cells for cell in pair)]


def _cells(outcome: Outcome, contestant: str, figure: Figure, case: str) -> tuple[str, str]:
    values = outcome.values(contestant, figure.key, case)
    first = outcome.contestants[0]
    ratio = None
    if contestant != first:
        ratio = summary(ratios(outcome.values(first, figure.key, case), values))
    return spread(summary(values)), "" if ratio is None else number(ratio.median)


def print_outcome(outcome: Outcome, console: Console) -> None:
    """The tables of one workload on a terminal."""
    table = Table(title=f"{outcome.workload}  {outcome.title}", title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(measured_columns(outcome)):
        table.add_column(column, justify="right" if index else "left")
    for row in measured_rows(outcome):
        table.add_row(*row)
    console.print(table)
    judgements = judge(outcome)
    if judgements:
        table = Table(box=box.SIMPLE_HEAD)
        for column in ("asked", "measured", ""):
            table.add_column(column)
        for one in judgements:
            table.add_row(bound(one), spread(one.measured), one.verdict.value, style=_STYLES[one.verdict])
        console.print(table)
    for text in (*outcome.notes, *outcome.refusals):
        console.print(f"  {text}", markup=False, highlight=False)


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(columns), " | ".join("---" for _ in columns), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def asked_table(outcomes: Sequence[Outcome], link: str = "") -> str:
    """Every bound beside what was measured of it, in Markdown; ``link`` leads to a workload by its ``{id}``."""
    rows = [
        [_linked(outcome.workload, link), bound(one), spread(one.measured), one.verdict.value]
        for outcome in outcomes
        for one in judge(outcome)
    ]
    return _markdown(("", "asked", "measured", ""), rows)


def _linked(workload: str, link: str) -> str:
    return f"[{workload}]({link.format(id=workload.lower())})" if link else workload


def measured_table(outcome: Outcome) -> str:
    """What was measured of every contestant, in Markdown."""
    return _markdown(measured_columns(outcome), list(measured_rows(outcome)))


def machine_line(machine: Machine) -> str:
    """The machine in one sentence."""
    memory = f"{machine.memory_bytes / 2**30:.0f} GiB"
    return f"{machine.cpu}, {machine.cores} cores, {memory}, {machine.kernel}"


def versions_line(outcomes: Sequence[Outcome]) -> str:
    """What competed, with versions."""
    versions: dict[str, str] = {}
    for outcome in outcomes:
        versions |= outcome.machine.versions
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items(), key=lambda one: one[0].lower()))


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """A run as a page of its own."""
    parts = [asked_table(outcomes)]
    if outcomes:
        parts += [f"Machine: {machine_line(outcomes[0].machine)}.", f"Versions: {versions_line(outcomes)}."]
    for outcome in outcomes:
        parts += [f"## {outcome.workload}  {outcome.title}", measured_table(outcome)]
        parts += [f"- {text}" for text in (*outcome.notes, *outcome.refusals)]
        parts.append(f"{outcome.started_at}, {outcome.seconds:.0f} s, {outcome.rounds} rounds: `{outcome.command}`")
    return "\n\n".join(parts) + "\n"
