"""The ``pulsetrail`` command, one module for each group of commands.

Exit codes: 0 done, 1 something is wrong (said in one sentence), 2 a mistake in the call or the settings, 3 the database
is not there, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, Exit, TyperException

from pulsetrail import __version__
from pulsetrail.cli.chaos_commands import chaos
from pulsetrail.cli.configuration import config
from pulsetrail.cli.database import migrate
from pulsetrail.cli.demo import demo
from pulsetrail.cli.investigation import history, tail
from pulsetrail.cli.log_commands import log
from pulsetrail.cli.output import say
from pulsetrail.cli.projection_commands import projections
from pulsetrail.cli.serving import collector, gateway, projector, serve
from pulsetrail.cli.workers import worker
from pulsetrail.errors import PulsetrailError, UsageError

INTERRUPTED = 130

app = typer.Typer(
    name="pulsetrail",
    help="A flight recorder for WebSocket connections: who dropped, when, why, and whose fault it was.",
    epilog="Settings: pulsetrail config. DATABASE_URL or PULSETRAIL_DATA_DIR says which database is meant.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command, panel in (
    (serve, "Run"),
    (demo, "Run"),
    (gateway, "Run"),
    (collector, "Run"),
    (projector, "Run"),
    (history, "Look"),
    (tail, "Look"),
    (migrate, "Set up"),
    (config, "Set up"),
):
    app.command(rich_help_panel=panel)(command)
app.add_typer(log, name="log", rich_help_panel="Look")
app.add_typer(projections, name="projections", rich_help_panel="Look")
app.add_typer(chaos, name="chaos", rich_help_panel="Break")
app.add_typer(worker, name="worker", hidden=True)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pulsetrail {__version__}")
        raise Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def _is_text(argument: str) -> bool:
    """Python passes bytes that it cannot decode on as surrogates, which nothing behind a command can encode."""
    return not any("\ud800" <= character <= "\udfff" for character in argument)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. A person's mistake costs one line on standard error."""
    for argument in arguments:
        if not _is_text(argument):
            say(f"pulsetrail: The argument {argument!r} is no text in UTF-8.")
            return UsageError.exit_code
    try:
        result = app(args=list(arguments), prog_name="pulsetrail", standalone_mode=False)
    except TyperException as error:
        if message := error.format_message():
            say(f"pulsetrail: {message} (pulsetrail --help says more)")
        return error.exit_code
    except PulsetrailError as error:
        say(f"pulsetrail: {error}")
        return error.exit_code
    except (KeyboardInterrupt, Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`). What is still buffered must not fail at the interpreter's exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    """Entry point."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
