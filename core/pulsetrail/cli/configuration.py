"""``pulsetrail config``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from pulsetrail.cli.output import Json, print_json, print_table
from pulsetrail.cli.settings_view import example, views
from pulsetrail.settings import load_settings

DOTENV = Path(".env")


def config(
    json: Json = False,
    show_example: Annotated[
        bool, typer.Option("--example", help="Print a .env file with every setting and its default.")
    ] = False,
) -> None:
    """Show every setting, its value and where it came from; secrets are masked.

    Exit code 2, with one line, when a value is not allowed.

    Examples:

        pulsetrail config

        pulsetrail config --json | jq '.[] | select(.source != "default")'

        pulsetrail config --example > .env
    """
    if show_example:
        typer.echo(example(), nl=False)
        return
    shown = views(load_settings(), os.environ, DOTENV)
    if json:
        print_json([view._asdict() for view in shown])
        return
    rows = ((view.variable, view.value, view.source, view.description, view.allowed) for view in shown)
    print_table(("setting", "value", "from", "meaning", "range"), rows, empty="There are no settings.")
