"""The error tree.

::

    PulsetrailError
    ├── UsageError                a person's mistake: one sentence, exit 2
    │   ├── SettingsError         a setting is missing, malformed or out of its range
    │   ├── DataDirectoryInUse    another instance owns the data directory
    │   ├── UnreadableFile        a file of the data directory is not what was written there
    │   ├── PortInUse             another program listens on the port
    │   └── SchemaMismatch        the database is too old, too new, or not migrated
    ├── LogUnavailable            the database cannot be reached now: exit 3, or try again
    ├── NotOnRecord               nothing is known of what was asked for
    ├── ChaosUnreachable          no chaos proxy answers, or it does not understand
    ├── EmbeddedPostgresFailed    the embedded server did not start: exit 3
    ├── LogHole                   a reader found positions that do not follow each other
    ├── AppendRefused             the log took nothing of a batch
    │   ├── LaneGap               the batch does not follow the lane's last sequence
    │   └── ClockSkew             the database's clock and ours have parted
    └── JournalError
        ├── JournalInUse          another process owns the journal
        ├── JournalFull           the cap is reached and the event may not be shed
        └── JournalFailed         the disk refused the commit

Every error carries its data as attributes; ``str(error)`` is one sentence that says what is wrong, where, and what
to do.
"""

from __future__ import annotations

from pathlib import Path


class PulsetrailError(Exception):
    """Root of every error that Pulsetrail raises on purpose."""

    exit_code = 1


class UsageError(PulsetrailError):
    """A person's mistake; the sentence is all they see."""

    exit_code = 2


class SettingsError(UsageError):
    """A setting has a value that is not allowed.

    ``allowed`` finishes the sentence "allowed: ...".
    """

    def __init__(self, setting: str, value: str, allowed: str) -> None:
        super().__init__(setting, value, allowed)
        self.setting = setting
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.setting} is {self.value}; allowed: {self.allowed}."


class DataDirectoryInUse(UsageError):
    """Another instance holds the lock of the data directory."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"The data directory {self.path} is in use by another instance; "
            "stop that one or set PULSETRAIL_DATA_DIR to another directory."
        )


class UnreadableFile(UsageError):
    """A file that an earlier start wrote cannot be understood; ``remedy`` says what to do about it."""

    def __init__(self, path: Path, remedy: str) -> None:
        super().__init__(path, remedy)
        self.path = path
        self.remedy = remedy

    def __str__(self) -> str:
        return f"The file {self.path} is damaged; {self.remedy}."


class PortInUse(UsageError):
    """Another program listens on the address; ``option`` chooses another."""

    def __init__(self, host: str, port: int, option: str = "--port") -> None:
        super().__init__(host, port)
        self.host = host
        self.port = port
        self.option = option

    def __str__(self) -> str:
        return f"Port {self.port} on {self.host} is taken; stop the other program or choose one with {self.option}."


class SchemaMismatch(UsageError):
    """The database's schema is not the one this version works with; ``detail`` says how they differ."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class LogUnavailable(PulsetrailError):
    """The database cannot be reached or does not answer in time; nothing is known of the statement's effect."""

    exit_code = 3

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"The database is not available: {self.detail}."


class NotOnRecord(PulsetrailError):
    """Nothing is known of the ``subject`` of that ``kind``."""

    def __init__(self, kind: str, subject: str) -> None:
        super().__init__(kind, subject)
        self.kind = kind
        self.subject = subject

    def __str__(self) -> str:
        return f"There is no {self.kind} {self.subject!r} on record."


class ChaosUnreachable(PulsetrailError):
    """No chaos proxy does what it is told at this ``address``; ``detail`` says what came instead."""

    def __init__(self, address: str, detail: str) -> None:
        super().__init__(address, detail)
        self.address = address
        self.detail = detail

    def __str__(self) -> str:
        return (
            f"No chaos proxy takes orders at {self.address} ({self.detail}); start pulsetrail chaos serve, or say with "
            "--control where it is."
        )


class EmbeddedPostgresFailed(PulsetrailError):
    """The embedded PostgreSQL did not start; ``detail`` holds its own words, ``directory`` its data."""

    exit_code = 3

    def __init__(self, directory: Path | None, detail: str) -> None:
        super().__init__(directory, detail)
        self.directory = directory
        self.detail = detail

    def __str__(self) -> str:
        where = f" in {self.directory}" if self.directory is not None else ""
        return f"The embedded PostgreSQL{where} did not start: {self.detail}."


class LogHole(PulsetrailError):
    """A shard's events do not continue where a reader's cursor ends: the log was damaged, or retention outran it."""

    def __init__(self, shard: int, expected: int, found: int) -> None:
        super().__init__(shard, expected, found)
        self.shard = shard
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return f"Shard {self.shard} of the log continues at position {self.found} instead of {self.expected}."


class AppendRefused(PulsetrailError):
    """The log took nothing of the batch."""


class LaneGap(AppendRefused):
    """The batch starts at ``first_seq``, but the lane ends at ``last_seq``: something before it is missing."""

    def __init__(self, last_seq: int, first_seq: int) -> None:
        super().__init__(last_seq, first_seq)
        self.last_seq = last_seq
        self.first_seq = first_seq

    def __str__(self) -> str:
        return f"The lane ends at {self.last_seq}, but the batch starts at {self.first_seq}."


class ClockSkew(AppendRefused):
    """The database's clock is ``seconds`` ahead of the shipper's steady clock (negative: behind)."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return (
            f"The database's clock is {self.seconds:+.0f} s from this host's; events stay in the journal "
            "until the clocks agree within 5 minutes."
        )


class JournalError(PulsetrailError):
    """The journal could not do its work."""


class JournalInUse(JournalError):
    """Another process owns the journal."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"The journal {self.path} is in use by another process."


class JournalFull(JournalError):
    """The journal's cap is reached."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        super().__init__(path, max_bytes)
        self.path = path
        self.max_bytes = max_bytes

    def __str__(self) -> str:
        return (
            f"The journal {self.path} has reached its cap of {self.max_bytes} bytes; "
            "bring the database back or raise PULSETRAIL_JOURNAL_MAX_BYTES."
        )


class JournalFailed(JournalError):
    """The disk refused a commit."""

    def __init__(self, path: Path, detail: str) -> None:
        super().__init__(path, detail)
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        return f"The journal {self.path} could not be written: {self.detail}."
