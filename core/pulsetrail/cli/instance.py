"""An instance from its lock to its last worker: what ``serve`` and the roles apart do before and after serving.

The order matters. The data directory is locked before anything in it is read, the port is probed before the database
is started, and the database stops last, so that every journal can still be shipped to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence

from pulsetrail import __version__, ports
from pulsetrail.cli.database import url_without_password
from pulsetrail.cli.output import say
from pulsetrail.datadir import DataDir
from pulsetrail.embedded import EmbeddedPostgres
from pulsetrail.errors import EmbeddedPostgresFailed, LogUnavailable
from pulsetrail.settings import Settings
from pulsetrail.supervisor import FIRST_PAUSE, LONGEST_PAUSE, Supervisor, WorkerSpec

FLUSH_SECONDS = 15.0
"""How long a process may take to ship its journal and close, after its sockets are closed."""

MIGRATE_AGAIN = 5.0

PROJECTOR = WorkerSpec("projector", ("projector",), FLUSH_SECONDS)


def gateway_specs(settings: Settings, *, collect: bool) -> list[WorkerSpec]:
    """The gateway's processes; ``collect`` mounts the collector's routes in them."""
    flag = ("--collect",) if collect else ()
    return [
        WorkerSpec(f"gateway-{index}", ("gateway", str(index), *flag), settings.drain_seconds + FLUSH_SECONDS)
        for index in range(settings.workers)
    ]


def collector_spec() -> WorkerSpec:
    """The collector in a process of its own."""
    return WorkerSpec("collector", ("collector",), FLUSH_SECONDS)


def run_everything(
    settings: Settings, *, beside: Callable[[str], contextlib.AbstractContextManager[None]] | None = None
) -> None:
    """``serve``: every role, and the embedded database if no other is named, until SIGTERM or SIGINT.

    ``beside`` gets the public address once the instance serves; its context lasts until the instance stops.
    """
    data = DataDir(settings.data_dir)
    with data.lock(), _reserved(settings) as port, contextlib.ExitStack() as stack:
        node = data.node_name(settings.node_name)
        environment = _environment(settings, node=node, port=port)
        supervisor = Supervisor(data.run, environment, say)
        stack.enter_context(supervisor.signals())
        database: _Embedded | None = None
        if settings.database_url is None:
            say("Starting the embedded PostgreSQL...")
            database = _Embedded(data)
            stack.callback(database.stop)
            environment["PULSETRAIL_DATABASE_URL"] = database.start()
        url = environment["PULSETRAIL_DATABASE_URL"]
        migrated = _migrate(settings, data, url)
        stack.callback(supervisor.stop)
        supervisor.start([*gateway_specs(settings, collect=True), *([PROJECTOR] if migrated else [])])
        if not supervisor.stopping.is_set():
            _announce(settings, data, node, port, url)
            if beside is not None:
                stack.enter_context(beside(f"{_shown(settings.host)}:{port}"))
        supervisor.watch(_Chores(settings, url, database, supervisor, migrated))
        say("Stopping: closing the connections and shipping the journals...")
    say("Stopped.")


def run_roles(settings: Settings, specs: Sequence[WorkerSpec], *, listens: bool) -> None:
    """One role against a shared database, until SIGTERM or SIGINT.

    Raises:
        LogUnavailable: no database is named.
    """
    if settings.database_url is None:
        raise LogUnavailable("roles that run apart share one; set DATABASE_URL, or use pulsetrail serve")
    data = DataDir(settings.data_dir)
    with data.lock(shared=True), contextlib.ExitStack() as stack:
        port = stack.enter_context(_reserved(settings)) if listens else 0
        node = data.node_name(settings.node_name)
        supervisor = Supervisor(data.run, _environment(settings, node=node, port=port), say)
        stack.enter_context(supervisor.signals())
        stack.callback(supervisor.stop)
        supervisor.start(specs)
        if not supervisor.stopping.is_set():
            where = f" on http://{_shown(settings.host)}:{port}" if listens else ""
            say(f"Pulsetrail {__version__}: {', '.join(spec.name for spec in specs)} of node {node}{where}.")
        supervisor.watch()
    say("Stopped.")


@contextlib.contextmanager
def _reserved(settings: Settings) -> Iterator[int]:
    with ports.reserve(settings.host, settings.port) as kept:
        yield kept.getsockname()[1]


def _environment(settings: Settings, *, node: str, port: int) -> dict[str, str]:
    """What the workers read in place of this command's options."""
    environment = {
        **os.environ,
        "PULSETRAIL_HOST": settings.host,
        "PULSETRAIL_PORT": str(port),
        "PULSETRAIL_DATA_DIR": str(settings.data_dir.absolute()),
        "PULSETRAIL_WORKERS": str(settings.workers),
        "PULSETRAIL_NODE_NAME": node,
    }
    if settings.database_url is not None:
        environment["PULSETRAIL_DATABASE_URL"] = settings.database_url.get_secret_value()
    return environment


def _migrate(settings: Settings, data: DataDir, url: str) -> bool:
    """Bring the schema up to date; ``False`` when the database is away and the instance can start without it."""
    try:
        _run_migrations(url, settings.log_shards)
    except LogUnavailable as error:
        if data.cached_deployment() is None:
            raise
        say(f"{error} Serving without it: events wait in the journals.")
        return False
    return True


def _run_migrations(url: str, shards: int) -> None:
    # Imported here: Alembic costs a second that no other command has to wait for.
    from pulsetrail.migrate import migrate

    asyncio.run(migrate(url, shards=shards))


class _Embedded:
    """The embedded server, brought back when it ends under us."""

    def __init__(self, data: DataDir) -> None:
        self._server = EmbeddedPostgres(data.postgres, say=say)
        self._pause = FIRST_PAUSE
        self._again_at = 0.0

    def start(self) -> str:
        url = self._server.start()
        if self._server.adopted:
            say("Adopted the PostgreSQL that an earlier instance left running.")
        return url

    def tend(self) -> None:
        now = time.monotonic()
        if self._server.alive() or now < self._again_at:
            return
        say("The embedded PostgreSQL ended; starting it again. Events wait in the journals.")
        self._again_at = now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        try:
            self._server.start()
        except EmbeddedPostgresFailed as error:
            say(str(error))

    def stop(self) -> None:
        self._server.stop()


class _Chores:
    """What the supervisor looks after besides its workers."""

    def __init__(
        self,
        settings: Settings,
        url: str,
        database: _Embedded | None,
        supervisor: Supervisor,
        migrated: bool,
    ) -> None:
        self._settings = settings
        self._url = url
        self._database = database
        self._supervisor = supervisor
        self._migrated = migrated
        self._migrate_at = time.monotonic() + MIGRATE_AGAIN

    def __call__(self) -> None:
        if self._database is not None:
            self._database.tend()
        if not self._migrated and time.monotonic() >= self._migrate_at:
            with contextlib.suppress(LogUnavailable):
                _run_migrations(self._url, self._settings.log_shards)
                self._migrated = True
                self._supervisor.start([PROJECTOR])
                say("The database is back: shipping the journals.")
            self._migrate_at = time.monotonic() + MIGRATE_AGAIN


def _announce(settings: Settings, data: DataDir, node: str, port: int, url: str) -> None:
    at = f"{_shown(settings.host)}:{port}"
    workers = f"{settings.workers} worker{'s' if settings.workers > 1 else ''}"
    say(
        f"Pulsetrail {__version__} is running: node {node}, {workers}, data in {data.path}.\n"
        f"  monitor    {_monitor(at)}\n"
        f"  updates    ws://{at}/ws/updates\n"
        f"  telemetry  http://{at}/v1/telemetry\n"
        f"  metrics    http://{at}/metrics\n"
        f"  health     http://{at}/healthz and /readyz\n"
        f"  database   {url_without_password(url)}\n"
        "Next: pulsetrail tail, pulsetrail history CLIENT. Ctrl-C stops it."
    )


def _monitor(at: str) -> str:
    # Imported here: only this command has pages, and no other has to wait for what serves them.
    from pulsetrail_service.pages import MONITOR, is_built, pages_directory

    built = is_built(pages_directory())
    return f"http://{at}{MONITOR}" if built else "not built (Node 20.19 or newer and scripts/build-web make it)"


def _shown(host: str) -> str:
    """A host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host
