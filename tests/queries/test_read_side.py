"""What a person asks by a connection or a client, and as it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest
from recorded_lives import Life, append, in_time

from pulsetrail import queries
from pulsetrail.close_codes import Reason
from pulsetrail.errors import LogUnavailable
from pulsetrail.events import CHAOS_CLIENT, Previous
from pulsetrail.identity import ClientIdentity, client_ref, new_id, shard_of
from pulsetrail.log import Log
from pulsetrail.projections.runner import Projector, connect_pool


@pytest.fixture
async def reader(database_url: str) -> AsyncIterator[Any]:
    async with queries.reading(database_url, application_name="test") as connection:
        yield connection


@pytest.fixture
async def lives(database_url: str, postgres_log: Log) -> tuple[Life, Life]:
    """Two connections of one client that the log has an identity of; the account of the first comes last."""
    key = await postgres_log.deployment()
    ref = client_ref(key.client_key, "till 7")
    shard = shard_of(ref, key.shards)
    first = Life(shard=shard).open().miss(31).close(90, Reason.PEER_RESET)
    second = Life(shard=shard, opened_at=first.opened_at + 92_000_000)
    second.open(previous=Previous(connection=first.connection_id, code=1006))
    first.account("socket.closed", 89.5, code=1006, clean=False)
    for life in (first, second):
        life.ref = ref
        life.events = [msgspec.structs.replace(event, client_ref=ref) for event in life.events]
    account = first.events.pop()
    await append(postgres_log, [*in_time([first, second]), account])
    await postgres_log.remember([ClientIdentity(ref, "till 7", "ada@example.com")])
    async with await connect_pool(database_url) as pool:
        await Projector(pool).catch_up()
    return first, second


async def test_a_client_is_found_by_its_id_its_pseudonym_and_its_tokens_subject(
    reader: Any, lives: tuple[Life, Life], database_url: str
) -> None:
    first, _ = lives
    for text in ("till 7", str(first.ref), "ada@example.com"):
        found = await queries.history(reader, text, limit=10)
        assert found is not None, text
        assert (found.subject, found.client and found.client["client_id"]) == ("client", "till 7"), text
    for text in ("till 8", str(new_id()), "", "Robert'); DROP TABLE events; --"):
        assert await queries.history(reader, text, limit=10) is None, text
    owner = await asyncpg.connect(database_url)
    await owner.execute("UPDATE client_identity SET client_id = NULL, subject = NULL, erased_at = now()")
    await owner.close()
    assert await queries.history(reader, "till 7", limit=10), "who knows the id finds the client by its hash"
    assert await queries.history(reader, "ada@example.com", limit=10) is None


async def test_faults_of_a_chaos_proxy_stand_in_the_history_of_the_connections_that_lived_then(
    reader: Any, lives: tuple[Life, Life], postgres_log: Log
) -> None:
    first, second = lives
    key = await postgres_log.deployment()
    ref = client_ref(key.client_key, CHAOS_CLIENT)
    chaos = Life(shard=shard_of(ref, key.shards), opened_at=first.opened_at)
    chaos.account("chaos.applied", 89, fault="reset")
    chaos.account("chaos.applied", 3_000, fault="refuse")
    chaos.account("page.visible", 89.2)  # a page that calls itself chaos is no proxy
    sources = ("chaos", "chaos", "client")
    await append(
        postgres_log,
        [
            msgspec.structs.replace(event, client_ref=ref, source=source, connection_id=None)
            for event, source in zip(chaos.events, sources, strict=True)
        ],
    )
    told = await queries.history(reader, str(first.connection_id), limit=10)
    assert told is not None
    assert [event["event_type"] for event in told.events] == [
        "connection.opened",
        "heartbeat.missed",
        "chaos.applied",
        "socket.closed",
        "connection.closed",
    ]
    still_open = await queries.history(reader, str(second.connection_id), limit=10)
    assert still_open is not None
    faults = [event["payload"]["fault"] for event in still_open.events if event["event_type"] == "chaos.applied"]
    assert faults == ["reset", "refuse"], "the first just before it opened"


async def test_the_history_of_a_connection_tells_both_accounts_in_the_order_they_happened(
    reader: Any, lives: tuple[Life, Life]
) -> None:
    first, _ = lives
    found = await queries.history(reader, str(first.connection_id).upper(), limit=10)
    assert found is not None
    assert found.subject == "connection"
    assert [event["event_type"] for event in found.events] == [
        "connection.opened",
        "heartbeat.missed",
        "socket.closed",
        "connection.closed",
    ]
    (row,) = found.connections
    assert (row["reason"], row["initiator"], row["client_closed_code"]) == ("peer_reset", "unknown", 1006)
    assert row["evidence"]["messages_in"] == 3
    assert found.client is not None
    assert (found.client["open_connections"], found.client["connections_opened"]) == (1, 2)


async def test_the_history_of_a_client_is_json_with_the_gaps_between_its_connections(
    reader: Any, lives: tuple[Life, Life]
) -> None:
    first, second = lives
    found = await queries.history(reader, "till 7", limit=10)
    assert found is not None
    told = msgspec.json.decode(msgspec.json.encode(found._asdict()))
    newest, oldest = told["connections"]
    assert [newest["connection_id"], oldest["connection_id"]] == [str(second.connection_id), str(first.connection_id)]
    assert (newest["previous_connection_id"], newest["previous_reason"], newest["gap_ms"], newest["is_open"]) == (
        str(first.connection_id),
        "peer_reset",
        2_000,
        True,
    )
    assert len(told["events"]) == 5
    short = await queries.history(reader, "till 7", limit=1, events_limit=2)
    assert short is not None
    assert [row["connection_id"] for row in short.connections] == [second.connection_id]
    assert [event["event_type"] for event in short.events] == ["socket.closed", "connection.opened"]


async def test_connections_are_filtered_and_paged(reader: Any, lives: tuple[Life, Life]) -> None:
    first, second = lives

    async def ids(**only: Any) -> list[Any]:
        return [row["connection_id"] for row in await queries.connections(reader, **only)]

    assert await ids(is_open=True) == [second.connection_id]
    assert await ids(reason="peer_reset", node_id="otter-0") == [first.connection_id]
    assert await ids(node_id="heron-1") == []
    (page,) = await queries.connections(reader, limit=1)
    assert page["connection_id"] == second.connection_id
    assert await ids(limit=1, before=page["opened_at"]) == [first.connection_id]
    assert await ids(since=page["opened_at"]) == [second.connection_id]
    assert [tuple(count) for count in await queries.open_counts(reader)] == [("otter-0", 1, 0)]


async def test_a_tail_shows_the_newest_and_then_what_follows_once(
    reader: Any, lives: tuple[Life, Life], postgres_log: Log
) -> None:
    first, _ = lives
    at = await queries.heads(reader)
    newest = await queries.newest(reader, at, limit=2, types=None, client=None)
    assert [row["event_type"] for row in newest] == ["connection.opened", "socket.closed"]
    missed = await queries.newest(reader, at, limit=9, types=["heartbeat.missed"], client=first.ref)
    assert [row["event_type"] for row in missed] == ["heartbeat.missed"]
    place = next(head for head in at if head.shard == first.shard)
    await append(postgres_log, Life(shard=first.shard).open().close(1).events)
    came = await queries.following(reader, place.shard, place.head_position, place.head_recorded_at)
    assert [row["event_type"] for row in came] == ["connection.opened", "connection.closed"]
    assert await queries.following(reader, place.shard, came[-1]["position"], came[-1]["recorded_at"]) == []


async def test_the_read_side_cannot_write(reader: Any) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await reader.execute("DELETE FROM connections_v1")


async def test_a_database_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(LogUnavailable, match="The database is not available"):
        async with queries.reading("postgresql://nobody@127.0.0.1:1/nothing", application_name="test"):
            pass
