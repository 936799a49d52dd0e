"""The embedded Postgres as the product runs it, with fsync, for the benchmarks of the log; its CPU can be told."""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from bench.processes import cpu_seconds, family
from pulsetrail.embedded import EmbeddedPostgres
from pulsetrail.migrate import migrate


class Database:
    """A server of its own; ``fresh`` makes migrated databases in it."""

    def __init__(self, scratch: Path) -> None:
        self._directory = scratch / "postgres"
        self._server = EmbeddedPostgres(self._directory)
        self._url = ""
        self._template: str | None = None

    def start(self) -> None:
        self._url = self._server.start()

    def stop(self) -> None:
        self._server.stop()

    async def fresh(self) -> str:
        """URL of an empty database with the product's schema."""
        if self._template is None:
            template = f"template_{secrets.token_hex(4)}"
            await self._execute(f"CREATE DATABASE {template}")
            await migrate(self._of(template))
            self._template = template
        name = f"bench_{secrets.token_hex(4)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return self._of(name)

    async def drop(self, url: str) -> None:
        """Remove a database."""
        await self._execute(f"DROP DATABASE {urlsplit(url).path.removeprefix('/')} WITH (FORCE)")

    async def settle(self) -> None:
        """Write what is dirty, so that the next turn does not pay for this one."""
        await self._execute("CHECKPOINT")

    def cpu(self) -> float:
        """CPU seconds of the server and all its processes so far; those that have ended count as their parent's."""
        return cpu_seconds(family([self._postmaster()]))

    def _postmaster(self) -> int:
        return int((self._directory / "postmaster.pid").read_text(encoding="utf-8").splitlines()[0])

    def _of(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()
