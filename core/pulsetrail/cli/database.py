"""Which database a command means, and bringing its schema up to date."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

from pulsetrail.cli.output import say
from pulsetrail.datadir import DataDir
from pulsetrail.embedded import running_url
from pulsetrail.errors import LogUnavailable, SchemaMismatch
from pulsetrail.log import Deployment, Log
from pulsetrail.settings import Settings, load_settings

PATIENCE = 3.0
"""Seconds that a start waits for the database when it could go on without it."""


def find_database(settings: Settings) -> str:
    """The URL of the database that the settings name, or of the embedded one that runs in the data directory.

    Raises:
        LogUnavailable: there is none, with what to do about it.
    """
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    data = DataDir(settings.data_dir)
    url = running_url(data.postgres)
    if url is None:
        raise LogUnavailable(
            f"DATABASE_URL is not set and no PostgreSQL runs in {data.postgres}; "
            "start pulsetrail serve there, or set PULSETRAIL_DATA_DIR or DATABASE_URL"
        )
    return url


def url_without_password(url: str) -> str:
    """A database URL that may be shown."""
    password = urlsplit(url).password
    return url if not password else url.replace(f":{password}@", ":***@", 1)


def migrate() -> None:
    """Bring the database's schema up to date. Harmless when it is.

    ``pulsetrail serve`` does this itself; with the roles apart, run it once before they start.

    Examples:

        DATABASE_URL=postgresql://user:password@db/pulsetrail pulsetrail migrate
    """
    # Imported here: Alembic costs a second that no other command has to wait for.
    from pulsetrail.migrate import migrate as run_migrations

    settings = load_settings()
    url = find_database(settings)
    asyncio.run(run_migrations(url, shards=settings.log_shards))
    say(f"The schema of {url_without_password(url)} is up to date.")


async def deployment_of(data: DataDir, log: Log) -> Deployment:
    """Shards and key, from the database or, when that is away, from what an earlier start remembered of it.

    Raises:
        LogUnavailable: the database is away and nothing is remembered.
        SchemaMismatch: the directory belongs to another database.
    """
    remembered = data.cached_deployment()
    try:
        async with asyncio.timeout(None if remembered is None else PATIENCE):
            found = await log.deployment()
    except (LogUnavailable, TimeoutError):
        if remembered is None:
            raise
        return remembered
    if remembered is not None and remembered != found:
        raise SchemaMismatch(
            f"The data directory {data.path} belongs to another database: its key is not this one's; set "
            "PULSETRAIL_DATA_DIR to a directory of its own for each database."
        )
    data.cache_deployment(found)
    return found
