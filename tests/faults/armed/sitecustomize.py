"""Kills a process of the product at a point of its code, from outside: Python imports this module at its start when the
tests put its directory on ``PYTHONPATH``, and it wraps the functions named in ``POINTS`` as they are imported. The
product knows nothing of it. A wrapper only looks at a byte in a file that the test maps into memory too; when it finds
its own number there, often enough, the process ends with SIGKILL, and whoever is to end with it.

It imports only what every process has anyway, because it runs in every process.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

TRIGGER = "FAULTS_TRIGGER"
"""The environment variable that names the file."""
POINT, COUNTDOWN, VICTIMS, FIRED = range(4)
"""What the first bytes of the file mean; ``POINT`` is an index into ``POINTS`` counted from 1, 0 is none."""
PID = slice(4, 8)
"""Who got there, little-endian."""
BYTES = 8

SELF, GROUP, EVERYTHING = range(3)
"""Who dies: the process that gets there; its process group, that is every process but Postgres; Postgres too."""


OCCASIONS = ("traffic", "restart", "fewer workers", "frozen node", "stop")
"""Under traffic; at a start after a crash; at one with fewer workers; while the reaper ends what a frozen node has
open; at an orderly end."""


class Point(NamedTuple):
    """A place in the product's code."""

    name: str
    module: str
    function: str
    """``Class.method`` or a function's name."""
    when: str
    """``before`` its call, ``after`` its return, ``inside`` a context manager when its block is done, or when
    it is ``left``."""
    role: str
    """The process that it is about: ``gateway``, ``projector`` or ``serve``."""
    occasion: str = "traffic"
    """When a process gets there: one of ``OCCASIONS``."""
    within: str = ""
    """Only in a call that comes, however far, from a function of this name."""
    matching: Callable[..., bool] | None = None
    """Only in a call with arguments that satisfy this."""


def _has(event_type: str) -> Callable[..., bool]:
    def matches(store: Any, rows: Any, identities: Any) -> bool:
        return any(event.event_type == event_type for event, _ in rows)

    return matches


def _is_end(recorder: Any, connection: Any, draft: Any, *_: Any) -> bool:
    return bool(draft.event_type == "connection.closed")


def _has_telemetry(store: Any, rows: Any, identities: Any) -> bool:
    return any(event.source == "client" for event, _ in rows)


def _sends_opening(log: Any, batch: Any) -> bool:
    return any(event.event_type == "connection.opened" for event in batch.events)


def _says(text: str) -> Callable[..., bool]:
    def matches(connection: Any, query: str, *_: Any, **__: Any) -> bool:
        return text in query

    return matches


_STORE, _LOG, _ASYNCPG = "pulsetrail.journal.store", "pulsetrail.log.postgres", "asyncpg.connection"
_HUB, _EMBEDDED = "pulsetrail_service.hub", "pulsetrail.embedded"

_FILE, _JOURNAL, _RECORDER, _NODE = (
    "pulsetrail.journal.sqlite_file",
    "pulsetrail.journal.recorder",
    "pulsetrail_service.recorder",
    "pulsetrail_service.node",
)
_OPENING, _CHECKPOINT = _has("connection.opened"), _says("UPDATE projection_checkpoint SET position")
_TRAFFIC, _RESTART, _FEWER, _FROZEN, _STOP = OCCASIONS


def _gateway(name: str, module: str, function: str, when: str, occasion: str = _TRAFFIC, **when_else: Any) -> Point:
    return Point(name, module, function, when, "gateway", occasion, **when_else)


def _projector(name: str, module: str, function: str, when: str, occasion: str = _TRAFFIC, **when_else: Any) -> Point:
    return Point(name, module, function, when, "projector", occasion, **when_else)


POINTS: tuple[Point, ...] = (
    # From the handshake to the welcome.
    _gateway("before an opening's commit", _STORE, "Store.commit", "before", matching=_OPENING),
    _gateway("in the middle of a commit", _FILE, "SqliteFile.transaction", "inside", within="_commit"),
    _gateway("between an opening's commit and its 101", _STORE, "Store.commit", "after", matching=_OPENING),
    _gateway("between the hub and the 101", _HUB, "Hub.join", "after"),
    _gateway("after the welcome", _HUB, "Hub.greet", "before"),
    # Telemetry.
    _gateway("before a batch's commit", _STORE, "Store.commit", "before", matching=_has_telemetry),
    _gateway("between a batch's commit and its 202", _STORE, "Store.commit", "after", matching=_has_telemetry),
    # The end of a connection.
    _gateway("before an end is recorded", _HUB, "Hub.lost", "before"),
    _gateway("between an end and its commit", _RECORDER, "Recorder.of_connection", "after", matching=_is_end),
    # Shipping.
    _gateway("with a batch in hand", _JOURNAL, "Journal.pending", "after"),
    _gateway("between identities and events", _LOG, "PostgresLog.remember", "after"),
    _gateway("between append and its acknowledgement", _LOG, "PostgresLog.append", "after", matching=_sends_opening),
    _gateway("between an acknowledgement and its mark", _STORE, "Store.mark_shipped", "after"),
    _gateway("in the middle of saving the marks", _FILE, "SqliteFile.transaction", "inside", within="save_marks"),
    # The journal and the metrics are kept in order.
    _gateway("in the middle of a purge", _FILE, "SqliteFile.transaction", "inside", within="purge"),
    _gateway("after a purge", _STORE, "Store.purge", "after"),
    _gateway("before a lease is renewed", _LOG, "PostgresLog.renew_lease", "before"),
    _gateway("after a lease is renewed", _LOG, "PostgresLog.renew_lease", "after"),
    _gateway("in the middle of writing the metrics", "pathlib", "Path.replace", "before", within="write"),
    _projector("in the middle of writing the domain's metrics", "pathlib", "Path.replace", "before", within="write"),
    # Projections.
    _projector("between fold and checkpoint", _ASYNCPG, "Connection.execute", "before", matching=_CHECKPOINT),
    _projector("between checkpoint and commit", _ASYNCPG, "Connection.execute", "after", matching=_CHECKPOINT),
    _projector("after a fold", "pulsetrail.projections.folding", "fold_batch", "after"),
    # A start after a crash.
    _gateway("in the middle of a recovery", _FILE, "SqliteFile.transaction", "inside", _RESTART, within="recover"),
    _gateway("between two commits of a recovery", _FILE, "SqliteFile.transaction", "left", _RESTART, within="recover"),
    _gateway("after a recovery", _RECORDER, "Recorder.node_started", "before", _RESTART),
    Point("before Postgres is started", _EMBEDDED, "EmbeddedPostgres.start", "before", "serve", _RESTART),
    Point("after Postgres is started", _EMBEDDED, "EmbeddedPostgres.start", "after", "serve", _RESTART),
    Point("after the workers are started", "pulsetrail.supervisor", "Supervisor.start", "after", "serve", _RESTART),
    # Journals that nobody owns any more.
    _projector("before an orphan's recovery", _JOURNAL, "Journal.recover", "before", _FEWER),
    _projector("after an orphan's recovery", _JOURNAL, "Journal.recover", "after", _FEWER),
    _projector("in the middle of shipping an orphan", _LOG, "PostgresLog.append", "after", _FEWER),
    # The reaper.
    _projector(
        "between the reaper's ends and their commit",
        _ASYNCPG,
        "Connection.fetchrow",
        "after",
        _FROZEN,
        within="_end",
        matching=_says("append_events"),
    ),
    _projector("after a round of the reaper", "pulsetrail.projections.reaper", "Reaper.reap", "after", _FROZEN),
    # An orderly end.
    _gateway("before the drain", _HUB, "Hub.drain", "before", _STOP),
    _gateway("after the drain", _HUB, "Hub.drain", "after", _STOP),
    _gateway("before a lease is released", _NODE, "Lease.release", "before", _STOP),
    _gateway("after a lease is released", _NODE, "Lease.release", "after", _STOP),
)


def index_of(name: str) -> int:
    """The number of a point in the file."""
    return next(index for index, point in enumerate(POINTS, 1) if point.name == name)


# --- in a process of the product --------------------------------------------------------------------------------------


class _Armed:
    """This process's view of the file."""

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR)
        self.memory = mmap.mmap(descriptor, BYTES)
        os.close(descriptor)

    def reached(self, index: int, point: Point, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        memory = self.memory
        if memory[POINT] != index:
            return
        if point.within and not _comes_from(point.within):
            return
        if point.matching is not None and not point.matching(*arguments, **options):
            return
        if memory[COUNTDOWN] > 1:
            memory[COUNTDOWN] -= 1
            return
        memory[POINT] = 0
        memory[PID] = os.getpid().to_bytes(4, "little")
        memory[FIRED] = index
        _kill(memory[VICTIMS])


def _comes_from(function: str) -> bool:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == function:
            return True
        frame = frame.f_back  # type: ignore[assignment]  # the loop ends there
    return False


def _kill(victims: int) -> None:
    if victims == EVERYTHING:
        for pid in _postgres():
            os.kill(pid, signal.SIGKILL)
    if victims >= GROUP:
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _postgres() -> list[int]:
    try:
        text = (Path(os.environ["PULSETRAIL_DATA_DIR"]) / "postgres" / "postmaster.pid").read_text()
        postmaster = int(text.splitlines()[0])
    except (OSError, ValueError, IndexError):
        return []
    children = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == postmaster:
                children.append(int(entry.name))
    return [postmaster, *children]


def _wrapped(original: Any, index: int, point: Point, armed: _Armed) -> Any:
    if point.when in ("inside", "left"):

        @functools.wraps(original)
        @contextmanager
        def context(*arguments: Any, **options: Any) -> Iterator[Any]:
            with original(*arguments, **options) as value:
                yield value
                if point.when == "inside":
                    armed.reached(index, point, arguments, options)
            if point.when == "left":
                armed.reached(index, point, arguments, options)

        return context
    if point.when == "before":

        @functools.wraps(original)
        def before(*arguments: Any, **options: Any) -> Any:
            armed.reached(index, point, arguments, options)
            return original(*arguments, **options)

        return before
    if inspect.iscoroutinefunction(inspect.unwrap(original)):

        @functools.wraps(original)
        async def after(*arguments: Any, **options: Any) -> Any:
            result = await original(*arguments, **options)
            armed.reached(index, point, arguments, options)
            return result

        return after

    @functools.wraps(original)
    def done(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        armed.reached(index, point, arguments, options)
        return result

    return done


def _instrument(module: ModuleType, points: dict[int, Point], armed: _Armed) -> None:
    for index, point in points.items():
        *path, name = point.function.split(".")
        owner: Any = functools.reduce(getattr, path, module)
        setattr(owner, name, _wrapped(getattr(owner, name), index, point, armed))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that have points as everybody does, and instruments them when they have been executed."""

    def __init__(self, points: dict[str, dict[int, Point]], armed: _Armed) -> None:
        self._points = points
        self._armed = armed

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        points = self._points.get(fullname)
        if points is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_instrument(module: ModuleType) -> None:
            execute(module)
            _instrument(module, points, self._armed)

        spec.loader.exec_module = execute_and_instrument  # type: ignore[method-assign]  # that is the point
        return spec


def _role() -> str:
    """Which process of the product this is: ``... worker gateway 0``, or a command such as ``serve``."""
    words = sys.orig_argv
    if "worker" in words:
        return words[words.index("worker") + 1]
    return words[words.index("pulsetrail.cli") + 1] if "pulsetrail.cli" in words[:-1] else ""


def _arm() -> None:
    path = os.environ.get(TRIGGER)
    role = _role()
    if path is None or not role:
        return
    wanted: dict[str, dict[int, Point]] = {}
    for index, point in enumerate(POINTS, 1):
        if point.role == role:
            wanted.setdefault(point.module, {})[index] = point
    armed = _Armed(path)
    for name in list(wanted):
        if name in sys.modules:
            _instrument(sys.modules[name], wanted.pop(name), armed)
    sys.meta_path.insert(0, _Finder(wanted, armed))


_arm()
