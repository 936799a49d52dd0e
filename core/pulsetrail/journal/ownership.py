"""The lock of a journal: whoever holds it owns the file, and a dead process holds nothing."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from pulsetrail.errors import JournalInUse


def lock_path(path: Path) -> Path:
    """Where the lock of the journal at ``path`` is; a file of its own, so that SQLite may replace the journal."""
    return path.with_name(path.name + ".lock")


class Ownership:
    """A held lock (flock(2)); the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock of the journal at ``path``.

        Raises:
            JournalInUse: another process, or another object of this one, holds it.
        """
        self._lock = lock_path(path)
        while True:
            self._fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._fd)
                raise JournalInUse(path) from None
            if self._is_current():
                return
            os.close(self._fd)  # a former owner removed the file between our open and our lock: try the new one

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), self._lock.stat())
        except FileNotFoundError:
            return False

    def release(self, *, remove: bool = False) -> None:
        """Let go; with ``remove`` the lock file goes too (while it is still held, so that nobody can slip in)."""
        if remove:
            self._lock.unlink(missing_ok=True)
        os.close(self._fd)
