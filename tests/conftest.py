"""Postgres for the tests: found once a session, migrated once, a database of its own for each test that asks.

``TEST_DATABASE_URL`` (a server where we may create databases) comes first, then a container when a Docker engine
answers, then the embedded server. The header of the run says which.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit, urlunsplit

import asyncpg
import pytest

from pulsetrail.embedded import EmbeddedPostgres
from pulsetrail.log.postgres import PostgresLog
from pulsetrail.migrate import migrate

CONTAINER_IMAGE = "postgres:18-alpine"


def _connected(address: SplitResult) -> socket.socket:
    if address.scheme != "unix":
        return socket.create_connection((address.hostname or "localhost", address.port or 2375), 2)
    engine = socket.socket(socket.AF_UNIX)
    engine.settimeout(2)
    try:
        engine.connect(address.path)
    except OSError:
        engine.close()
        raise
    return engine


@cache
def _docker_answers() -> bool:
    """Asks by hand: the client library of Docker leaves a socket open when nobody answers, and warnings are errors."""
    address = urlsplit(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    try:
        with _connected(address) as engine:
            engine.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b" 200 " in engine.recv(64)
    except OSError:
        return False


def _source() -> tuple[str, Callable[[], AbstractContextManager[str]]]:
    """Where the tests' Postgres comes from, in words, and how to get its URL."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        return f"TEST_DATABASE_URL ({urlsplit(given).hostname or 'local socket'})", lambda: _given(given)
    if _docker_answers():
        return f"container {CONTAINER_IMAGE}", _container
    return "embedded server", _embedded


@contextmanager
def _given(url: str) -> Iterator[str]:
    yield url


@contextmanager
def _container() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer  # wants an engine at its import

    with PostgresContainer(CONTAINER_IMAGE, driver=None) as container:
        yield container.get_connection_url()


@contextmanager
def _embedded() -> Iterator[str]:
    # Not under pytest's own directory: the server's user could not reach it when the tests run as root.
    directory = Path(tempfile.mkdtemp(prefix="pulsetrail-tests-"))
    directory.chmod(0o755)
    server = EmbeddedPostgres(directory / "postgres", settings={"fsync": "off", "max_connections": "200"})
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


def pytest_report_header() -> str:
    return f"postgres: {_source()[0]}"


def in_own_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that runs in a thread with an event loop of its own, so that also tests which are not
    asynchronous get a database, and no test's loop is disturbed."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def database_of(url: str, name: str) -> str:
    """The URL of another database of the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def _make_template(server: str, name: str) -> None:
    await _execute(server, f"CREATE DATABASE {name}")
    await migrate(database_of(server, name))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of the server, as a user who may create databases."""
    with _source()[1]() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> Iterator[str]:
    """Name of a migrated database with 4 shards; nobody may stay connected to it."""
    name = f"pulsetrail_template_{secrets.token_hex(4)}"
    in_own_loop(_make_template(postgres_server, name))
    yield name
    in_own_loop(_execute(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


def _database(server: str, *, template: str | None = None) -> Iterator[str]:
    name = f"pulsetrail_test_{secrets.token_hex(6)}"
    in_own_loop(_execute(server, f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else "")))
    yield database_of(server, name)
    in_own_loop(_execute(server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="session")
def copy_of(postgres_server: str) -> Callable[[str], AbstractContextManager[str]]:
    """Makes a copy of the database of a name, for the time of a block; nobody may be connected to that one."""
    return lambda name: contextmanager(_database)(postgres_server, template=name)


@pytest.fixture
def database_url(postgres_server: str, migrated_template: str) -> Iterator[str]:
    """A migrated database for this test alone."""
    yield from _database(postgres_server, template=migrated_template)


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """A database without any schema, for this test alone."""
    yield from _database(postgres_server)


@pytest.fixture
async def postgres_log(database_url: str) -> AsyncIterator[PostgresLog]:
    """A log on a database of its own."""
    log = await PostgresLog.connect(database_url, application_name="test")
    yield log
    await log.close()
