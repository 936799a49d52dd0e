"""What the clients themselves know: an append-only file that each of them writes before it attempts something and after
it has seen an answer, so that nobody has to believe the service.

A line is one ``write`` to a file opened with ``O_APPEND``: it outlives any process, and several may share a file. Times
are left out on purpose; what counts is the order of the lines of one client.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec


class Attempted(msgspec.Struct, frozen=True, tag="handshake attempted", tag_field="what"):
    """Written before the client connects; ``attempt`` counts from 1 for each client and goes along in the query."""

    client: str
    attempt: int
    page: str


class Upgraded(msgspec.Struct, frozen=True, tag="101 seen", tag_field="what"):
    """From here on the service has promised that this connection is on record."""

    client: str
    attempt: int


class Welcomed(msgspec.Struct, frozen=True, tag="welcome seen", tag_field="what"):
    """Now the client knows its connection's id."""

    client: str
    attempt: int
    connection: str


class Refused(msgspec.Struct, frozen=True, tag="refused", tag_field="what"):
    """An HTTP status, or a close code in the place of a welcome."""

    client: str
    attempt: int
    code: int


class Ended(msgspec.Struct, frozen=True, tag="ended", tag_field="what"):
    """The client no longer has this connection, or gave up the attempt. If it leaves by itself, written before."""

    client: str
    attempt: int
    how: str
    code: int | None = None


class BatchAttempted(msgspec.Struct, frozen=True, tag="batch attempted", tag_field="what"):
    """Written before a batch is sent, each time: the page's events ``first`` to ``last``."""

    page: str
    first: int
    last: int


class BatchAcknowledged(msgspec.Struct, frozen=True, tag="batch acknowledged", tag_field="what"):
    """A 202 that accepted every event of the batch was seen."""

    page: str
    first: int
    last: int


class BatchRefused(msgspec.Struct, frozen=True, tag="batch refused", tag_field="what"):
    """Another answer than that."""

    page: str
    first: int
    last: int
    status: int


Entry = Attempted | Upgraded | Welcomed | Refused | Ended | BatchAttempted | BatchAcknowledged | BatchRefused

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Entry).decode


class Record:
    """The file of one process's clients, open for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, entry: Entry) -> None:
        """Put one line at the end; it is with the kernel when this returns."""
        line = _encode(entry) + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError(f"{self.path} took a part of a line only")

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RecordReader:
    """Reads records as they grow; each entry once."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._offsets = dict.fromkeys(paths, 0)

    def read(self) -> list[Entry]:
        """What was written since the last call, in the order of each file."""
        entries: list[Entry] = []
        for path, offset in self._offsets.items():
            if not path.exists():
                continue
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self._offsets[path] = offset + whole
            entries += map(_decode, data[:whole].splitlines())
        return entries
