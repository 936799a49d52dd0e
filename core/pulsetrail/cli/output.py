"""What the commands print: tables for people, JSON for programs, one sentence for a mistake."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich import box
from rich.console import Console
from rich.table import Table

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

MAX_WIDTH = 200


def console() -> Console:
    """A console on standard output: colours on a terminal only, and lines as long as they are in a pipe."""
    if sys.stdout.isatty():
        return Console()
    return Console(width=MAX_WIDTH, no_color=True, soft_wrap=True)


def say(line: str) -> None:
    """Progress and mistakes go to standard error, so that a pipe gets data only."""
    print(line, file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    """One indented JSON document. Times become ISO 8601, UUIDs text."""
    text = msgspec.json.format(msgspec.json.encode(data), indent=2)
    sys.stdout.write(text.decode() + "\n")


def print_json_line(data: Any) -> None:
    """One JSON object on a line of its own, at once, for a stream."""
    sys.stdout.write(msgspec.json.encode(data).decode() + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """A table, or the sentence ``empty`` when there are no rows. Columns that start with ``#`` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.removeprefix("#"), justify="right" if column.startswith("#") else "left")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    if table.row_count:
        console().print(table)
    else:
        console().print(empty, markup=False, highlight=False)


def cell(value: Any) -> str:
    """A value as people read it, with nothing that the terminal or Rich would take for markup."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, Mapping):
        value = " ".join(f"{key}={part}" for key, part in value.items() if part is not None)
    text = "".join(character if character.isprintable() else "\ufffd" for character in str(value))
    return text.replace("[", r"\[")
