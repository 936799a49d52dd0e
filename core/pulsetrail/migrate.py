"""Bring a database to this version's schema, and say in words when it has another.

The migrations are Alembic's, under ``migrations/``: a Python file that says the order and the limits, beside it a file
of SQL. They run with asyncpg, the one driver of the product.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from pulsetrail.errors import LogUnavailable, SchemaMismatch
from pulsetrail.log.partitions import ensure_partitions

DEFAULT_SHARDS: Final = 4
OLDEST_SERVER: Final = 14
_CONNECT_SECONDS: Final = 10.0
_MIGRATION_LOCK: Final = 0x70756C73
"""Key of the advisory lock that makes two instances migrate one after the other."""

_HERE: Final = Path(__file__).resolve().parent


async def migrate(url: str, *, shards: int = DEFAULT_SHARDS) -> None:
    """Run the pending migrations and make the partitions of the days ahead. Harmless when there is nothing to do.

    ``shards`` counts at the first migration only; later it has to be the same.

    Raises:
        SchemaMismatch: the server is too old, the schema newer than this version, or of another number of shards.
        LogUnavailable: the database cannot be reached.
    """
    async with connecting(url) as connection:
        await connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _MIGRATION_LOCK})
        await connection.commit()
        await connection.run_sync(_refuse_newer)
        config = _config()
        config.attributes.update(connection=None, shards=shards)

        def upgrade(synchronous: Connection) -> None:
            config.attributes["connection"] = synchronous
            command.upgrade(config, "head")

        await connection.run_sync(upgrade)
        await connection.commit()
        await _refuse_other_shards(connection, shards)
    await ensure_partitions(url)


async def check_schema(url: str, *, shards: int | None = None) -> None:
    """Return when the database has exactly this version's schema, and ``shards`` shards if that is given.

    Raises:
        SchemaMismatch: it has not; the sentence says how they differ and what to do.
        LogUnavailable: the database cannot be reached.
    """
    async with connecting(url) as connection:
        await connection.run_sync(_refuse_newer)
        at = await connection.run_sync(_revision)
        head = _scripts().get_current_head()
        if at is None:
            raise SchemaMismatch("The database has no Pulsetrail schema yet; run `pulsetrail migrate`.")
        if at != head:
            raise SchemaMismatch(
                f"The database's schema is at {at}, this version needs {head}: migrations are pending; "
                "run `pulsetrail migrate`."
            )
        if shards is not None:
            await _refuse_other_shards(connection, shards)


@asynccontextmanager
async def connecting(url: str) -> AsyncIterator[AsyncConnection]:
    """One SQLAlchemy connection, closed at the end.

    Raises:
        SchemaMismatch: the server is older than ``OLDEST_SERVER``.
        LogUnavailable: the database cannot be reached or went away.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        poolclass=NullPool,
        # asyncpg reads the URL itself, here as everywhere.
        async_creator=lambda: asyncpg.connect(
            url, timeout=_CONNECT_SECONDS, server_settings={"application_name": "pulsetrail migrate"}
        ),
    )
    try:
        async with engine.connect() as connection:
            version = int((await connection.execute(text("SHOW server_version_num"))).scalar_one()) // 10_000
            if version < OLDEST_SERVER:
                raise SchemaMismatch(
                    f"The database runs PostgreSQL {version}; Pulsetrail needs PostgreSQL {OLDEST_SERVER} or newer."
                )
            await connection.commit()
            yield connection
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresConnectionError,
        asyncpg.InvalidAuthorizationSpecificationError,
    ) as e:
        raise LogUnavailable(str(e) or type(e).__name__) from e
    except DBAPIError as e:
        if e.connection_invalidated or isinstance(e.__cause__, asyncpg.PostgresConnectionError):
            raise LogUnavailable(str(e.orig)) from e
        raise
    finally:
        await engine.dispose()


def run_script(connection: Connection, path: Path) -> None:
    """Execute a file of several statements, which a prepared statement could not hold."""
    script = path.read_text(encoding="utf-8")
    driver = connection.connection.dbapi_connection
    if driver is None:
        raise RuntimeError("the connection is closed")
    driver.run_async(lambda raw: raw.execute(script))


def become_owner(connection: Connection) -> None:
    """Make the roles where that is allowed, and act as ``pulsetrail_owner`` where that is: what the migrations make
    belongs to the role then, and not to whoever happened to run them."""
    run_script(connection, _HERE / "log" / "roles.sql")
    connection.commit()


def _config() -> Config:
    installed = _HERE / "migrations"
    config = Config()
    location = installed if installed.is_dir() else _HERE.parents[1] / "migrations"
    config.set_main_option("script_location", str(location).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(connection: Connection) -> None:
    at = _revision(connection)
    connection.commit()
    if at is not None and at not in {script.revision for script in _scripts().walk_revisions()}:
        raise SchemaMismatch(
            f"The database's schema is at {at}, which this version does not know: a newer Pulsetrail has migrated it; "
            "install that version or a later one."
        )


async def _refuse_other_shards(connection: AsyncConnection, shards: int) -> None:
    fixed = (await connection.execute(text("SELECT shards FROM deployment"))).scalar_one()
    if fixed != shards:
        raise SchemaMismatch(
            f"PULSETRAIL_LOG_SHARDS is {shards}, but this log was made with {fixed} shards, which is for ever; "
            f"set it to {fixed}."
        )
