"""The read side: what the log and its read models answer. Every statement is in ``queries.sql``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from pulsetrail.errors import LogUnavailable, SchemaMismatch
from pulsetrail.events import CHAOS_CLIENT
from pulsetrail.identity import client_ref, shard_of
from pulsetrail.log import Deployment
from pulsetrail.statements import load_statements

Row = dict[str, Any]
"""A row by the names of its columns: UUIDs, aware datetimes, and JSON as Python values."""

_SQL: Final = load_statements("pulsetrail", "queries.sql")
_LOG_SQL: Final = load_statements("pulsetrail.log", "queries.sql")
_FOLLOW_AT_ONCE: Final = 1_000
_HOUR: Final = timedelta(hours=1)
_LEAD: Final = timedelta(seconds=10)
"""Faults are shown that were applied so long before a connection opened or after it ended: clocks, and what was on its
way, differ by less."""


class History(NamedTuple):
    """What is on record of one client, or of one connection."""

    client: Row | None
    connections: list[Row]
    """Newest first."""
    events: list[Row]
    """Its timeline, both accounts and the faults of chaos proxies meanwhile, in the order in which it happened; of a
    client the newest events."""
    subject: str = "client"
    """What was asked for: ``client`` or ``connection``."""


class OpenCount(NamedTuple):
    """What one node has open."""

    node_id: str | None
    open_connections: int
    stale: int


class Head(NamedTuple):
    """Where one shard of the log ends."""

    shard: int
    head_position: int
    head_recorded_at: Any
    truncated_before: int


@asynccontextmanager
async def reading(url: str, *, application_name: str, statement_seconds: float = 60.0) -> AsyncIterator[Any]:
    """A connection that cannot change anything.

    Raises:
        LogUnavailable: the database cannot be reached, or went away.
        SchemaMismatch: it has no schema of ours.
    """
    async with talking(
        url,
        application_name=application_name,
        default_transaction_read_only="on",
        statement_timeout=f"{statement_seconds:.0f}s",
    ) as connection:
        yield connection


@asynccontextmanager
async def talking(url: str, *, application_name: str, **options: str) -> AsyncIterator[Any]:
    """A connection, with the database's troubles as our errors; see ``reading``."""
    try:
        connection = await asyncpg.connect(
            url, timeout=10, server_settings={"application_name": application_name, "timezone": "UTC", **options}
        )
        try:
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(
                    kind, encoder=_encode_json, decoder=msgspec.json.decode, schema="pg_catalog"
                )
            yield connection
        finally:
            await connection.close(timeout=5)
    except asyncpg.UndefinedTableError as error:
        raise SchemaMismatch("The database has no Pulsetrail schema yet; run `pulsetrail migrate`.") from error
    except asyncpg.QueryCanceledError as error:
        raise LogUnavailable("the question took too long") from error
    except (
        OSError,
        TimeoutError,
        asyncpg.PostgresConnectionError,
        asyncpg.CannotConnectNowError,
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.AdminShutdownError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
    ) as error:
        raise LogUnavailable(str(error).rstrip(".") or type(error).__name__) from error


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


async def deployment(connection: Any) -> Deployment:
    """Shards and key."""
    return Deployment(*await connection.fetchrow(_LOG_SQL["deployment"]))


async def history(connection: Any, subject: str, *, limit: int, events_limit: int = 1_000) -> History | None:
    """What is on record of a connection (by its id), or a client (by its id, ``client_ref`` or token's subject).

    ``None`` when nothing is.
    """
    key = await deployment(connection)
    identifier = _uuid(subject)
    if identifier is not None:
        row = await connection.fetchrow(_SQL["connection"], identifier)
        if row is not None:
            since = row["opened_at"] or row["last_recorded_at"]
            shard = row["shard"]
            # Clocks of hosts differ; an hour is more than any difference that append accepts.
            events = await connection.fetch(_SQL["timeline"], shard, identifier, since - _HOUR)
            # Faults of chaos proxies belong to no connection: cause and effect meet here, by their time.
            chaos = client_ref(key.client_key, CHAOS_CLIENT)
            until = None if row["ended_at"] is None else row["ended_at"] + _LEAD
            faults = await connection.fetch(
                _SQL["faults_between"], shard_of(chaos, key.shards), chaos, since - _HOUR, since - _LEAD, until
            )
            client = await _client(connection, shard, row["client_ref"])
            timeline = sorted(map(dict, (*faults, *events)), key=lambda event: event["occurred_at"])
            return History(client, [dict(row)], timeline, "connection")
    named = await connection.fetchval(_SQL["client_by_subject"], subject)
    for ref in (client_ref(key.client_key, subject), identifier, named):
        if ref is None:
            continue
        shard = shard_of(ref, key.shards)
        rows = await connection.fetch(_SQL["connections_of_client"], shard, ref, limit)
        client = await _client(connection, shard, ref)
        if rows or client is not None:
            events = await connection.fetch(_SQL["timeline_of_client"], shard, ref, events_limit)
            return History(client, [dict(row) for row in rows], [dict(event) for event in events])
    return None


async def connections(
    connection: Any,
    *,
    reason: str | None = None,
    node_id: str | None = None,
    is_open: bool | None = None,
    since: datetime | None = None,
    before: datetime | None = None,
    limit: int = 100,
) -> list[Row]:
    """Connections that were opened in ``[since, before)``, newest first; the last row's ``opened_at`` as ``before`` is
    the next page."""
    rows = await connection.fetch(_SQL["connections"], reason, node_id, is_open, since, before, limit)
    return [dict(row) for row in rows]


async def open_counts(connection: Any) -> list[OpenCount]:
    """What each node has open now, as far as the projection has come."""
    return [OpenCount(*row) for row in await connection.fetch(_SQL["open_counts"])]


async def heads(connection: Any) -> list[Head]:
    """Where each shard ends."""
    return [Head(*row) for row in await connection.fetch(_SQL["heads"])]


async def newest(
    connection: Any, at: Sequence[Head], *, limit: int, types: Sequence[str] | None, client: UUID | None
) -> list[Row]:
    """The newest events up to the heads, oldest first; of these types and this client only, if given."""
    found: list[Row] = []
    for head in at:
        rows = await connection.fetch(
            _SQL["newest"], head.shard, head.head_position, list(types) if types else None, client, limit
        )
        found += [dict(row) for row in rows]
    return sorted(found, key=_order)[-limit:] if limit else []


async def following(connection: Any, shard: int, position: int, recorded_at: Any) -> list[Row]:
    """The next events of a shard after a place, in order."""
    return [
        dict(row) for row in await connection.fetch(_SQL["following"], shard, position, recorded_at, _FOLLOW_AT_ONCE)
    ]


async def _client(connection: Any, shard: int, ref: UUID | None) -> Row | None:
    row = None if ref is None else await connection.fetchrow(_SQL["client"], shard, ref)
    return None if row is None else dict(row)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _order(row: Row) -> tuple[Any, int, int]:
    """By time; positions of different shards are not compared, they only break ties."""
    return row["recorded_at"], row["shard"], row["position"]
