"""A SQLite file under a journal: how it is opened and checked, its transactions, errors and size."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from pulsetrail.errors import JournalFailed, JournalFull
from pulsetrail.statements import load_statements

SQL: Final = load_statements(__package__, "queries.sql")
VACUUM_PAGES: Final = 256
"""Free pages given back to the file system in one go."""

_BUSY_MS: Final = 200
_MALFORMED: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class JournalDamaged(JournalFailed):
    """The file is not a sound SQLite database; it has to be set aside."""


class SqliteFile:
    """An open database in WAL mode; its size never passes ``max_bytes``, its write-ahead log apart."""

    def __init__(self, path: Path, *, sync: str, max_bytes: int) -> None:
        """Open or create the file and check all of it."""
        self.path = path
        self.max_bytes = max_bytes
        self.is_closed = False
        self._wal = path.with_name(path.name + "-wal")
        with self.translated():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
        try:
            with self.translated():
                self._prepare(sync)
        except BaseException:
            self._db.close()
            raise

    def _prepare(self, sync: str) -> None:
        self._pragma("busy_timeout", _BUSY_MS)
        self._pragma("auto_vacuum", "INCREMENTAL")
        self._pragma("journal_mode", "WAL")
        if (found := self._db.execute(SQL["check"]).fetchone()[0]) != "ok":
            raise JournalDamaged(self.path, found)
        _, _, page_size = self._db.execute(SQL["size"]).fetchone()
        wal_pages = min(1_000, max(16, self.max_bytes // 16 // page_size))
        self._pragma("synchronous", "FULL" if sync == "full" else "NORMAL")
        self._pragma("wal_autocheckpoint", wal_pages)
        self._pragma("journal_size_limit", wal_pages * page_size)
        self._pragma("max_page_count", max(64, self.max_bytes // page_size))
        self._db.executescript(SQL["schema"])

    def _pragma(self, name: str, value: str | int) -> None:
        """A PRAGMA takes no parameters; names and values here are ours."""
        self._db.execute(f"PRAGMA {name}={value}").fetchall()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the low byte is the primary code (sqlite.org/rescode)
            if code in _MALFORMED:
                raise JournalDamaged(self.path, str(error)) from error
            if code == sqlite3.SQLITE_FULL and self._is_at_page_limit():
                raise JournalFull(self.path, self.max_bytes) from error
            raise JournalFailed(self.path, str(error)) from error

    def _is_at_page_limit(self) -> bool:
        """Whether SQLite refused for our cap, not for the disk's end."""
        try:
            pages, free, size = self._db.execute(SQL["size"]).fetchone()
        except sqlite3.Error:
            return False
        return bool((pages - free) * size >= 0.9 * self.max_bytes)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing."""
        with self.translated():
            self._db.execute(SQL["begin"])
            try:
                yield self._db
                self._db.commit()
            except BaseException:
                if self._db.in_transaction:  # SQLite has rolled back by itself after some errors
                    self._db.rollback()
                raise

    def rows(self, statement: str, *parameters: object) -> list[Any]:
        """The rows of a named statement."""
        with self.translated():
            return self._db.execute(SQL[statement], parameters).fetchall()

    def shrink(self) -> None:
        """Give free pages back, a chunk at a time, once they are more than a quarter of the file."""
        pages, free, _ = self.rows("size")[0]
        if free > max(VACUUM_PAGES, pages // 4):
            with self.translated():
                self._db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()

    def checkpoint(self) -> None:
        """Move the write-ahead log into the database and empty it, unless a reader needs it."""
        with self.translated():
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def used_bytes(self) -> int:
        """Pages in use and the write-ahead log, in bytes."""
        pages, free, size = self.rows("size")[0]
        try:
            wal = os.stat(self._wal).st_size  # noqa: PTH116 - a third of Path.stat's time, once per commit
        except FileNotFoundError:
            wal = 0
        return int((pages - free) * size + wal)

    def abandon(self) -> None:
        """Close the file whatever state it is in."""
        self.is_closed = True
        with suppress(sqlite3.Error):
            self._db.close()

    def close(self) -> None:
        """Close the file; SQLite moves the write-ahead log into it."""
        self.is_closed = True
        with self.translated():
            self._db.close()
