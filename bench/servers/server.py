"""What every competing server can do, and what is common to starting one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from bench.processes import cpu_seconds, die_with_parent, family, resident_bytes
from bench.stage import BenchError

START_SECONDS: Final = 90.0
ROOT: Final = Path(__file__).parents[2]
_SETTLE_SECONDS: Final = 60.0
_QUIET: Final = 0.1
"""Share of a core below which nothing is under way."""


def python_program(module: str) -> list[str]:
    """The command for a module of ``bench``, wherever it is started."""
    start = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module({module!r}, run_name='__main__')"
    return [sys.executable, "-c", start]


class Server(ABC):
    """A server in processes of its own."""

    name: str
    path = "/ws"
    welcomes = False
    """Whether a client is connected only once its first message has come."""

    def __init__(self, scratch: Path) -> None:
        """``scratch`` is a folder that the run removes."""
        self.scratch = scratch
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None
        self._output = scratch / f"{type(self).__name__}.output"

    @property
    def address(self) -> tuple[str, int, str]:
        return "127.0.0.1", self.port, self.path

    @abstractmethod
    async def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            BenchError: it cannot be started here, and why.
        """

    @abstractmethod
    async def publish(self, count: int, size: int) -> None:
        """Send ``count`` messages of ``size`` bytes to every connection, one after the other without a pause. Each is
        JSON that holds ``"at":`` and the microsecond at which it was published."""

    @property
    def serving(self) -> int:
        """The process that holds the sockets."""
        assert self._process is not None  # noqa: S101 - started
        return self._process.pid

    def everything(self) -> set[int]:
        """All processes that belong to it."""
        return family([self.serving])

    def cpu(self) -> float:
        """CPU seconds of the process that holds the sockets."""
        return cpu_seconds([self.serving])

    def cpu_of_everything(self) -> float:
        """CPU seconds of all of it."""
        return cpu_seconds(self.everything())

    def memory(self) -> int:
        """Resident bytes of the process that holds the sockets."""
        return resident_bytes(self.serving)

    async def run(self, command: Sequence[str | Path], environment: dict[str, str] | None = None) -> None:
        """Start the process; its output goes to a file, in place of what an earlier one said."""
        with self._output.open("wb") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                env=environment,
                cwd=self.scratch,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def output(self) -> str:
        """Everything that it has printed."""
        return self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""

    def check(self) -> None:
        """Raise a ``BenchError`` with its last words if it has ended."""
        if self._process is not None and self._process.returncode is not None:
            last = (self.output().strip().splitlines() or ["nothing"])[-1]
            raise BenchError(f"{self.name} ended with {self._process.returncode}; its last words: {last}")

    async def announced(self) -> dict[str, Any]:
        """The first line that it printed as JSON.

        Raises:
            BenchError: none came in time.
        """
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            self.check()
            for line in self.output().splitlines():
                if line.startswith("{"):
                    said: dict[str, Any] = json.loads(line)
                    return said
            await asyncio.sleep(0.02)
        raise BenchError(f"{self.name} did not start in {START_SECONDS:.0f} s.")

    async def stop(self) -> None:
        """End it, in order if it can."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), 60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._process = None

    async def settle(self) -> None:
        """Wait until it has nothing left to do, such as events to ship, so that it does not disturb the next one."""
        until = time.monotonic() + _SETTLE_SECONDS
        before = self.cpu_of_everything()
        while time.monotonic() < until:
            await asyncio.sleep(0.5)
            now = self.cpu_of_everything()
            if now - before < 0.5 * _QUIET:
                return
            before = now
