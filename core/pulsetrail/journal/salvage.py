"""A damaged journal: set it aside, and carry over what can still be read.

Rows are looked up by their number, in blocks and then one by one, so that a torn page costs the rows it held and no
others. Rows keep their producer and sequence: those that had reached the log already are recognised there, and those
that are gone show as a hole that the shipper counts. Rows of a producer whose name is unreadable are left where they
are, because nobody could tell whether the log has them. When the first page is gone, SQLite reads nothing, and the
connections that were open are ended by the reaper.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from pulsetrail.statements import load_statements

_SQL: Final = load_statements(__package__, "queries.sql")
_BLOCK: Final = 256
_ENTRIES_MAX: Final = 50_000_000
_TABLE_ROWS_MAX: Final = 1_000_000


class Salvaged(NamedTuple):
    """What could be read of a damaged journal, in the columns of its tables."""

    producers: list[tuple[Any, ...]]
    lanes: list[tuple[Any, ...]]
    open_connections: list[tuple[Any, ...]]
    identities: list[tuple[Any, ...]]
    path: Path

    def entries(self) -> Iterator[tuple[Any, ...]]:
        """The readable events of known producers, a row at a time; there may be more than fit into memory."""
        known = {row[0] for row in self.producers}
        with closing(_connect(self.path)) as db:
            for row in _entries(db):
                if row[0] in known:
                    yield row


def set_aside(path: Path) -> Path:
    """Rename a damaged journal with its companions to ``<name>.damaged-<time>``; the new path of the main file."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    return aside


def salvage(aside: Path) -> Salvaged:
    """Read what a file that was set aside still gives. Never raises for what the file holds."""
    try:
        with closing(_connect(aside)) as db:
            return Salvaged(
                producers=_rows(db, "producers"),
                lanes=_rows(db, "lanes"),
                open_connections=list(_walk(db, "open_rows")),
                identities=list(_walk(db, "identity_rows")),
                path=aside,
            )
    except sqlite3.Error:
        return Salvaged([], [], [], [], aside)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _rows(db: sqlite3.Connection, statement: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    with suppress(sqlite3.Error):
        found.extend(db.execute(_SQL[statement]))
    return found


def _walk(db: sqlite3.Connection, statement: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a small table by ascending key, as far as the walk gets."""
    key = ""
    for _ in range(_TABLE_ROWS_MAX):
        try:
            row = db.execute(_SQL[statement], (key,)).fetchone()
        except sqlite3.Error:
            return
        if row is None:
            return
        yield row
        key = row[0]


def _entries(db: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    try:
        first, last = db.execute(_SQL["entry_span"]).fetchone()
    except sqlite3.Error:
        return
    for start in range(first, min(last, first + _ENTRIES_MAX) + 1, _BLOCK):
        yield from _between(db, start, min(start + _BLOCK - 1, last))


def _between(db: sqlite3.Connection, start: int, end: int) -> Iterable[tuple[Any, ...]]:
    try:
        return db.execute(_SQL["entries_between"], (start, end)).fetchall()
    except sqlite3.Error:
        if start == end:
            return ()
    return [row for number in range(start, end + 1) for row in _between(db, number, number)]
