"""``python -m bench``: measure, and write the report.

Exit codes: 0 done (whatever the figures are), 1 a workload could not run, 2 a mistake in the call, 130 interrupted.
"""

from __future__ import annotations

import asyncio
import resource
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.exceptions import Exit

from bench.install import everything
from bench.plots import plot
from bench.report import write_report
from bench.results import FORMAT, Outcome
from bench.stage import BUILD, BenchError, Size, Stage
from bench.tables import as_markdown, print_outcome
from bench.workloads import WORKLOADS
from pulsetrail.cli.output import say


class _RunByDefault(TyperGroup):
    """``python -m bench B1`` is ``python -m bench run B1``."""

    def parse_args(self, ctx: object, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ("-h", "--help")):
            args = ["run", *args]
        return super().parse_args(ctx, args)  # type: ignore[arg-type]  # Typer's context has no public name


app = typer.Typer(
    cls=_RunByDefault,
    help="Measure Pulsetrail beside its peers.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def run(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[B1 B3 ...]", help="Workloads; all of them.")] = None,
    size: Annotated[Size, typer.Option(help="small only shows that everything runs.")] = Size.FULL,
    out: Annotated[Path, typer.Option(help="Folder for the tables, the JSON and the plots.", show_default=False)] = (
        BUILD / "results"
    ),
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds; 5 in full size, 1 in small size.")] = None,
    only: Annotated[str, typer.Option(help="Contestants to measure, comma-separated.")] = "",
    plots: Annotated[bool, typer.Option(help="Draw the plots, which needs matplotlib.")] = True,
) -> None:
    """Measure workloads, print a table of each, and write ID.json, ID.svg and results.md.

    Examples:

        python -m bench

        python -m bench B3 B5 --rounds 3 --only pulsetrail,fastapi

        python -m bench --size small --no-plots
    """
    chosen = [name.upper() for name in ids or WORKLOADS]
    for name in chosen:
        if name not in WORKLOADS:
            raise typer.BadParameter(f"there is no workload {name}; there are {', '.join(WORKLOADS)}.")
    everything(say)
    _raise_open_files()
    out.mkdir(parents=True, exist_ok=True)
    names = [name.strip() for name in only.split(",") if name.strip()]
    failed = []
    for name in chosen:
        try:
            outcome = _measure(name, size, rounds or (5 if size is Size.FULL else 1), names)
        except BenchError as error:
            say(f"{name}: {error}")
            failed.append(name)
            continue
        (out / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(outcome), indent=1) + b"\n")
        if plots:
            plot(outcome, out / f"{name}.svg")
        print_outcome(outcome, _console())
    (out / "results.md").write_text(as_markdown(read_outcomes(out)), encoding="utf-8")
    say(f"Written to {out}: results.md and one JSON file a workload.")
    if failed:
        say(f"Could not run: {', '.join(failed)}.")
        raise Exit(1)


@app.command()
def prepare() -> None:
    """Install what the benchmarks need and this machine lacks; root gets Debian's packages too.

    Examples:

        python -m bench prepare
    """
    everything(say)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder with the results.")],
    page: Annotated[Path, typer.Option(help="The page to fill.")] = Path("docs/performance.md"),
) -> None:
    """Write what was measured into docs/performance.md.

    Examples:

        python -m bench report build/bench/results
    """
    outcomes = read_outcomes(folder)
    if not outcomes:
        raise BenchError(f"There are no results in {folder}; python -m bench writes some.")
    write_report(outcomes, folder, page)
    say(f"Written: {page}.")


def _measure(name: str, size: Size, rounds: int, only: list[str]) -> Outcome:
    stage = Stage(WORKLOADS[name], size=size, rounds=rounds, only=only, say=say)
    try:
        asyncio.run(stage.workload.run(stage))
        return stage.outcome(shlex.join(["python", "-m", "bench", *sys.argv[1:]]))
    finally:
        stage.close()


def read_outcomes(folder: Path) -> list[Outcome]:
    """The results in a folder, by workload.

    Raises:
        BenchError: a file there is no result, or one of another version.
    """
    found = []
    for path in folder.glob("B*.json"):
        try:
            outcome = msgspec.json.decode(path.read_bytes(), type=Outcome)
        except msgspec.DecodeError as error:
            raise BenchError(
                f"{path} is no result of this version of the benchmarks ({error}); measure again."
            ) from None
        if outcome.format != FORMAT:
            raise BenchError(f"{path} has format {outcome.format}, not {FORMAT}; measure again.")
        found.append(outcome)
    return sorted(found, key=lambda outcome: int(outcome.workload.removeprefix("B")))


def _raise_open_files() -> None:
    """Servers and load generators inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=200, no_color=True)


def main() -> int:
    """Run one command and return its exit code."""
    began = time.monotonic()
    try:
        code = app(prog_name="python -m bench", standalone_mode=False)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    except typer.exceptions.TyperException as error:
        say(f"bench: {error.format_message()} (python -m bench --help says more)")
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return 130
    if time.monotonic() - began > 60:
        say(f"{(time.monotonic() - began) / 60:.0f} minutes in all.")
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
