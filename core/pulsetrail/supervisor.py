"""Starts the processes of an instance, keeps them running, and ends them in order.

A worker is a process of its own (``python -m pulsetrail.cli worker ...``). It says that it is ready by writing
``run/<name>.json`` with its process number. It dies with its supervisor: its standard input is a pipe that only the
supervisor holds open, and on Linux the kernel is asked to kill it as well. A worker that ends by itself is started
again, later each time.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from pulsetrail.errors import PulsetrailError

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0
"""A worker that ran so long starts again after the first pause."""

_TICK = 0.1
_PR_SET_PDEATHSIG = 1  # prctl(2)


class WorkerSpec(NamedTuple):
    """One process: its name, the arguments after ``worker``, and how long its end may take."""

    name: str
    arguments: tuple[str, ...]
    stop_seconds: float


class WorkerFailed(PulsetrailError):
    """A worker could not start at all; it has said why."""

    def __init__(self, name: str, exit_code: int) -> None:
        super().__init__(name, exit_code)
        self.name = name
        self.exit_code = exit_code if exit_code > 0 else 1

    def __str__(self) -> str:
        return f"{self.name} did not start."


class Worker:
    """One supervised process, across its restarts."""

    def __init__(self, spec: WorkerSpec, run: Path, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.spec = spec
        self.was_ready = False
        self._state = run / f"{spec.name}.json"
        self._environment = dict(environment)
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._pause = FIRST_PAUSE
        self._started_at = 0.0
        self._start_again_at = 0.0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process."""
        command = [sys.executable, "-P", "-m", "pulsetrail.cli", "worker", *self.spec.arguments]
        self._started_at = time.monotonic()
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=self._environment)  # noqa: S603 - ourselves

    def ready(self) -> bool:
        """Whether this incarnation has said that it is ready."""
        if self._process is None or not self.running:
            return False
        state = read_state(self._state)
        self.was_ready = self.was_ready or state.get("pid") == self._process.pid
        return state.get("pid") == self._process.pid

    def tend(self) -> None:
        """Start the process again if it ended and its pause is over.

        Raises:
            WorkerFailed: it never was ready and refused to start for a reason that a restart does not change.
        """
        if self._process is None or self.running:
            return
        now = time.monotonic()
        if not self._start_again_at:
            code = self._process.returncode
            self._close_pipe()
            if not self.was_ready and not self.ready() and code > 0:
                raise WorkerFailed(self.spec.name, code)
            if now - self._started_at >= STEADY_SECONDS:
                self._pause = FIRST_PAUSE
            self._say(f"{self.spec.name} ended ({ending(code)}); starting it again in {self._pause:g} s.")
            self._start_again_at = now + self._pause
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
        elif now >= self._start_again_at:
            self._start_again_at = 0.0
            self.start()

    def terminate(self) -> None:
        """Ask the process to end."""
        if self._process is not None and self.running:
            self._process.terminate()

    def wait(self, until: float, hurry: threading.Event) -> None:
        """Wait for its end until the monotonic time ``until``, or ``hurry``; then kill it."""
        if self._process is None:
            return
        while self.running and time.monotonic() < until and not hurry.is_set():
            time.sleep(_TICK / 5)
        if self.running:
            self._say(f"{self.spec.name} did not end in time and is killed; its next start recovers.")
            self._process.kill()
        self._process.wait()
        self._close_pipe()
        # Whatever else lies there is nobody's state: it may not stop the end of the other workers.
        with suppress(OSError):
            self._state.unlink()

    def _close_pipe(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


class Supervisor:
    """Runs workers until SIGTERM or SIGINT. A second signal kills what is still draining."""

    def __init__(self, run: Path, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.stopping = threading.Event()
        self._hurry = threading.Event()
        self._workers: list[Worker] = []
        self._run = run
        self._environment = environment  # as it is when a worker starts
        self._say = say

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT for ourselves; only in the main thread."""
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def start(self, specs: Sequence[WorkerSpec]) -> None:
        """Start workers and wait until each is ready, or until it is time to stop.

        Raises:
            WorkerFailed: one cannot start; it has said why.
        """
        if self.stopping.is_set():
            return
        fresh = [Worker(spec, self._run, self._environment, self._say) for spec in specs]
        self._workers += fresh
        for worker in fresh:
            worker.start()
        while not all(worker.ready() for worker in fresh) and not self.stopping.wait(_TICK / 2):
            for worker in fresh:
                worker.tend()

    def watch(self, also: Callable[[], None] = lambda: None) -> None:
        """Keep the workers running until it is time to stop; ``also`` is called at each look."""
        while not self.stopping.wait(_TICK):
            for worker in self._workers:
                worker.ready()
                worker.tend()
            also()

    def stop(self) -> None:
        """End the workers in the order in which they were started."""
        self.stopping.set()
        groups = dict.fromkeys(worker.spec.name.partition("-")[0] for worker in self._workers)
        for group in groups:
            members = [worker for worker in self._workers if worker.spec.name.partition("-")[0] == group]
            for worker in members:
                worker.terminate()
            began = time.monotonic()
            for worker in members:
                worker.wait(began + worker.spec.stop_seconds, self._hurry)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.stopping.is_set():
            self._hurry.set()
        self.stopping.set()


def die_with_supervisor() -> None:
    """Called first in a worker: end this process at once when the supervisor is gone.

    At once, not in order: a new supervisor may already wait for our port and our journal, and the journal makes a
    crash harmless.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()


def write_state(path: Path, **state: object) -> None:
    """Say that this process is ready, with what others may want to know of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text(json.dumps({"pid": os.getpid(), **state}), encoding="utf-8")
    fresh.replace(path)


def read_state(path: Path) -> dict[str, object]:
    """What a process said of itself; empty when it did not."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def ending(code: int) -> str:
    """An exit status in words."""
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name
