"""Alembic's entry: a connection that ``pulsetrail.migrate`` hands over, or a URL from the settings for its own CLI."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from pulsetrail.migrate import become_owner, connecting
from pulsetrail.projections.schema import metadata
from pulsetrail.settings import load_settings


def run(connection: Connection) -> None:
    become_owner(connection)
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_from_settings() -> None:
    url = load_settings().database_url
    if url is None:
        raise SystemExit("Set DATABASE_URL to the database that Alembic shall work on.")
    async with connecting(url.get_secret_value()) as connection:
        await connection.run_sync(run)


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    asyncio.run(run_from_settings())
