"""The schema: made by migrations alone, described in full, and named in words when it is another."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from log_events import a_batch, an_event, everything
from sqlalchemy import Connection, text

from pulsetrail.errors import LogUnavailable, SchemaMismatch
from pulsetrail.identity import new_id
from pulsetrail.log.postgres import PostgresLog
from pulsetrail.migrate import check_schema, connecting, migrate
from pulsetrail.projections.schema import metadata


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_fresh_database_becomes_a_log_and_migrating_again_changes_nothing(empty_database_url: str) -> None:
    await migrate(empty_database_url, shards=3)
    async with connected(empty_database_url) as connection:
        before = await connection.fetch("SELECT * FROM deployment")
    await migrate(empty_database_url, shards=3)
    await check_schema(empty_database_url, shards=3)
    async with connected(empty_database_url) as connection:
        assert await connection.fetch("SELECT * FROM deployment") == before
        assert [row[0] for row in await connection.fetch("SELECT shard FROM log_shard ORDER BY 1")] == [0, 1, 2]


async def test_two_instances_may_migrate_at_once(empty_database_url: str) -> None:
    await asyncio.gather(migrate(empty_database_url), migrate(empty_database_url), migrate(empty_database_url))
    await check_schema(empty_database_url)


async def test_models_equal_migrations(database_url: str) -> None:
    async with connected(database_url) as connection:
        partitions = {row[0] for row in await connection.fetch("SELECT relname FROM pg_class WHERE relispartition")}

    def compare(synchronous: Connection) -> Any:
        def in_models(_: Any, name: str | None, kind: str, __: bool, ___: Any) -> bool:
            return kind != "table" or name not in partitions

        context = MigrationContext.configure(
            synchronous,
            opts={"include_object": in_models, "compare_type": True, "compare_server_default": True},
        )
        return compare_metadata(context, metadata)

    async with connecting(database_url) as connection:
        assert await connection.run_sync(compare) == []


async def test_every_table_view_and_column_has_a_comment(database_url: str) -> None:
    async with connected(database_url) as connection:
        silent = await connection.fetch(
            """
            SELECT c.relname, a.attname FROM pg_class c
            LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
              AND c.relname <> 'alembic_version'
              AND (obj_description(c.oid, 'pg_class') IS NULL OR col_description(c.oid, a.attnum) IS NULL)
            """
        )
    assert [f"{relation}.{column}" for relation, column in silent] == []


async def test_every_function_has_a_comment(database_url: str) -> None:
    async with connected(database_url) as connection:
        silent = await connection.fetch(
            "SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace "
            "AND obj_description(oid, 'pg_proc') IS NULL"
        )
    assert [row[0] for row in silent] == []


async def test_no_row_of_the_log_has_padding_between_its_fixed_columns(database_url: str) -> None:
    async with connected(database_url) as connection:
        widths = await connection.fetch(
            "SELECT attlen, attalign FROM pg_attribute WHERE attrelid = 'events'::regclass AND attnum > 0 "
            "ORDER BY attnum"
        )
    place, alignment = 0, {b"c": 1, b"s": 2, b"i": 4, b"d": 8}
    for length, align in widths:
        if length == -1:
            break
        assert place % alignment[align] == 0
        place += length


async def test_a_database_without_a_schema_is_named_so(empty_database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match=r"no Pulsetrail schema yet; run `pulsetrail migrate`"):
        await check_schema(empty_database_url)


async def test_a_pending_migration_is_named_so(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = 'log_tables'")
    with pytest.raises(SchemaMismatch, match=r"at log_tables, .* migrations are pending"):
        await check_schema(database_url)


async def test_a_schema_of_a_newer_version_is_named_so_and_left_alone(database_url: str) -> None:
    async with connected(database_url) as connection:
        await connection.execute("UPDATE alembic_version SET version_num = 'from_the_future'")
    for attempt in (check_schema, migrate):
        with pytest.raises(SchemaMismatch, match="from_the_future, which this version does not know"):
            await attempt(database_url)


async def test_another_number_of_shards_is_refused_with_both_numbers(database_url: str) -> None:
    with pytest.raises(SchemaMismatch, match="PULSETRAIL_LOG_SHARDS is 8, but this log was made with 4 shards"):
        await check_schema(database_url, shards=8)
    with pytest.raises(SchemaMismatch, match="set it to 4"):
        await migrate(database_url, shards=8)


async def test_a_database_that_is_not_there_is_not_available() -> None:
    with pytest.raises(LogUnavailable):
        await check_schema("postgresql://nobody@127.0.0.1:1/nothing")


@pytest.fixture
async def plain_owner_url(empty_database_url: str) -> AsyncIterator[str]:
    """A database whose owner is no superuser, may make no roles, and belongs to none of ours."""
    name, password = f"plain_{secrets.token_hex(4)}", secrets.token_hex(8)
    parts = urlsplit(empty_database_url)
    database = parts.path.removeprefix("/")
    async with connected(empty_database_url) as admin:
        await admin.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
        await admin.execute(f"ALTER DATABASE {database} OWNER TO {name}")
        if admin.get_server_version().major < 15:
            await admin.execute(f"GRANT CREATE ON SCHEMA public TO {name}")
    host = parts.netloc.rpartition("@")[2]
    yield urlunsplit(parts._replace(netloc=f"{name}:{password}@{host}"))
    async with connected(empty_database_url) as admin:
        await admin.execute(f"ALTER DATABASE {database} OWNER TO CURRENT_USER")
        await admin.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER")
        await admin.execute(f"DROP OWNED BY {name}")
        await admin.execute(f"DROP ROLE {name}")


async def test_an_owner_without_any_right_beyond_its_database_has_a_whole_log(plain_owner_url: str) -> None:
    await migrate(plain_owner_url)
    await check_schema(plain_owner_url, shards=4)
    log = await PostgresLog.connect(plain_owner_url, application_name="test", role="pulsetrail_writer")
    await log.append(a_batch(new_id(), 1, [an_event()]))
    assert len(await everything(log)) == 1
    await log.close()


async def test_the_migrations_leave_the_session_as_it_was(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    async with connecting(empty_database_url) as connection:
        locks = await connection.execute(
            text(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = "
                "(SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
        assert locks.scalar_one() == 0
