"""A long run for people: a page in Markdown and a picture."""

from __future__ import annotations

from pathlib import Path

import msgspec
from long_run_figures import COLUMNS, FIGURES, SETTLED_AFTER, Sample, Trend, rows_of

from bench.results import Machine
from bench.tables import machine_line

_COLOURS = ("#2f6fde", "#e8710a", "#188038", "#9334e6", "#80868b", "#d93025", "#129eaf")


class RunReport(msgspec.Struct, frozen=True):
    """Everything about one run."""

    started_at: str
    minutes: float
    connections: int
    workers: int
    churn: float
    machine: Machine
    handshakes: int
    events: int
    acknowledged: int
    """Telemetry events that the clients saw a 202 for."""
    drops: int
    """Connections that ended without their client's doing."""
    refusals: dict[str, int]
    """By status or close code."""
    findings: list[str]
    """The checker's; empty when nothing was lost or doubled."""
    trends: list[Trend]
    cpu: dict[str, float]
    """Cores that each process kept busy."""
    samples: list[Sample]

    @property
    def is_sound(self) -> bool:
        """Whether everything is flat, nothing wrong and nobody dropped or refused."""
        return not (self.findings or self.drops or self.refusals) and all(trend.is_flat for trend in self.trends)


def page(report: RunReport) -> str:
    """The page; its picture lies beside it."""
    rows = [" | ".join(row) for row in (list(COLUMNS), ["---"] * len(COLUMNS), *rows_of(report.trends))]
    table = "\n".join(f"| {row} |" for row in rows)
    cpu = ", ".join(f"{process} {cores:.2f}" for process, cores in report.cpu.items())
    if report.findings:
        judgement = "\n".join(["The checker found:", "", *(f"- {finding}" for finding in report.findings)])
    else:
        judgement = "By the clients' own records nothing was lost and nothing doubled; `pulsetrail log verify` and the "
        judgement += "rebuilt projections agree."
    return f"""# The long run

`make long-run`: {report.connections:,} connections to `pulsetrail serve --workers {report.workers}` for \
{report.minutes:g} minutes, of which {report.churn:.0%} leave and come back each minute, telemetry all the while, one \
restart of Postgres half-way; heartbeats every 30 s. Everything has to be flat after the first third: a straight line \
is fitted to what is sampled every 5 s from then on, and must not rise by more than the bound over that time. The \
journal keeps what is shipped for 15 minutes, so its size is judged once the first rows are let go.

{table}

![Memory, descriptors, tasks and journal of each process over the run](long-run.svg)

{report.handshakes:,} handshakes, {report.events:,} events in the log, {report.acknowledged:,} telemetry events \
acknowledged, {report.drops} connections dropped by the service, {sum(report.refusals.values())} requests refused. \
{judgement}

CPU, in cores: {cpu}.

Postgres is shown and not judged: its memory, without what its processes share, is its own caches.

{report.started_at}; {machine_line(report.machine)}; Python {report.machine.versions["python"]}.
"""


def picture(report: RunReport, path: Path) -> None:
    """Write the picture as SVG.

    Raises:
        ImportError: matplotlib is not installed (``make long-run`` installs it).
    """
    # Imported here: it takes a second, and only the measuring commands install it.
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    processes = list(dict.fromkeys(sample.process for sample in report.samples))
    colours = dict(zip(processes, _COLOURS, strict=False))
    # Paths, not fonts of this machine, and no date: the same figures give the same file.
    with mpl.rc_context({"svg.hashsalt": "long-run", "font.size": 9}):
        drawn, axes = pyplot.subplots(
            len(FIGURES), 1, figsize=(9, 2.1 * len(FIGURES)), sharex=True, layout="constrained"
        )
        for axis, figure in zip(axes, FIGURES, strict=True):
            for process in processes:
                points = [
                    (sample.seconds / 60, value / figure.scale)
                    for sample in report.samples
                    if sample.process == process and (value := getattr(sample, figure.key)) is not None
                ]
                if points:
                    axis.plot(*zip(*points, strict=True), color=colours[process], linewidth=1.1, label=process)
            since = max(report.minutes * SETTLED_AFTER, figure.not_before / 60)
            if since < report.minutes:
                axis.axvspan(since, report.minutes, color="#000000", alpha=0.04, linewidth=0)
            axis.axvline(report.minutes / 2, color="#888888", linestyle=":", linewidth=1)
            axis.set_ylim(bottom=0)
            axis.set_title(f"{figure.title}{f', {figure.unit}' if figure.unit else ''}", fontsize=9, loc="left")
            axis.spines[["top", "right"]].set_visible(False)
        axes[-1].set_xlabel("minutes; shaded: judged; dotted: Postgres restarted")
        axes[0].legend(fontsize=8, ncols=len(processes), frameon=False, loc="lower right")
        drawn.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(drawn)
