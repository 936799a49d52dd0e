"""What is in the log stays as it is, and who may do what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from log_events import REF, a_batch, an_event, everything, telemetry

from pulsetrail.events import decode_event, now_us
from pulsetrail.identity import ClientIdentity, new_id
from pulsetrail.log.postgres import PostgresLog


@pytest.fixture
async def admin(database_url: str, postgres_log: PostgresLog) -> AsyncIterator[Any]:
    """The most powerful user there is, on a log with one event."""
    await postgres_log.append(a_batch(new_id(), 1, [an_event()]))
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("where", ["events", "{partition}"])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {table} SET payload = '{{}}'",
        "UPDATE {table} SET payload = '{{}}' WHERE false",
        "DELETE FROM {table}",
        "TRUNCATE {table}",
    ],
)
async def test_the_log_is_append_only(admin: Any, postgres_log: PostgresLog, change: str, where: str) -> None:
    partition = await admin.fetchval("SELECT tableoid::regclass::text FROM events")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await admin.execute(change.format(table=where.format(partition=partition)))
    assert len(await everything(postgres_log)) == 1


async def test_a_partition_that_somebody_attaches_is_append_only_too(admin: Any) -> None:
    await admin.execute("CREATE TABLE by_hand (LIKE events INCLUDING ALL)")
    await admin.execute("ALTER TABLE events ATTACH PARTITION by_hand FOR VALUES FROM ('2001-01-01') TO ('2001-01-02')")
    await admin.execute(
        "INSERT INTO by_hand SELECT position, '2001-01-01 12:00', occurred_at, received_at, node_epoch, event_id, "
        "connection_id, client_ref, connection_seq, close_code, shard, schema_version, event_type, source, node_id, "
        "page_id, reason, payload FROM events"
    )
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await admin.execute("DELETE FROM by_hand")


async def refused(connection: Any, role: str, statement: str) -> bool:
    """Whether a role may not do something."""
    await connection.execute(f"SET ROLE {role}")
    try:
        await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    finally:
        await connection.execute("RESET ROLE")
    return False


@pytest.mark.parametrize("role", ["pulsetrail_writer", "pulsetrail_projector", "pulsetrail_reader"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO events SELECT * FROM events",
        "UPDATE events SET payload = '{}'",
        "DELETE FROM events",
        "TRUNCATE events",
        "DROP TABLE events",
        "UPDATE log_shard SET head_position = 0",
        "UPDATE producer_lane SET last_seq = 0",
        "ALTER TABLE events DISABLE TRIGGER ALL",
    ],
)
async def test_no_role_but_the_owner_can_touch_the_log_beside_the_append_function(
    admin: Any, role: str, statement: str
) -> None:
    assert await refused(admin, role, statement)


async def test_a_reader_sees_views_and_neither_key_nor_identities(admin: Any) -> None:
    assert not await refused(admin, "pulsetrail_reader", "SELECT * FROM event_log")
    assert not await refused(admin, "pulsetrail_reader", "SELECT * FROM log_head")
    for table in ("events", "deployment", "client_identity", "dead_letter"):
        assert await refused(admin, "pulsetrail_reader", f"TABLE {table}"), table
    settings = await admin.fetchval("SELECT rolconfig FROM pg_roles WHERE rolname = 'pulsetrail_reader'")
    assert set(settings) == {"default_transaction_read_only=on", "statement_timeout=30s"}


async def test_a_writer_can_do_all_that_a_log_does(database_url: str) -> None:
    log = await PostgresLog.connect(database_url, application_name="test", role="pulsetrail_writer")
    await log.append(a_batch(new_id(), 1, [an_event(), an_event(payload=b"nonsense")]))
    await log.remember([ClientIdentity(REF, "a client")])
    await log.remember([ClientIdentity(REF, "a client", "somebody")])
    await log.renew_lease("node", now_us(), 5.0)
    await log.release_lease("node", now_us())
    assert len(await everything(log)) == 2
    await log.close()


async def test_an_erased_identity_stays_erased(admin: Any, postgres_log: PostgresLog) -> None:
    await postgres_log.remember([ClientIdentity(REF, "a client", "somebody")])
    await admin.execute("UPDATE client_identity SET client_id = NULL, subject = NULL, erased_at = now()")
    await postgres_log.remember([ClientIdentity(REF, "a client", "somebody else")])
    assert await admin.fetchrow("SELECT client_id, subject FROM client_identity") == (None, None)


async def test_a_later_subject_replaces_an_earlier_one(admin: Any, postgres_log: PostgresLog) -> None:
    for subject in ("first", "second", None):
        await postgres_log.remember([ClientIdentity(REF, "a client", subject)])
    assert await admin.fetchrow("SELECT client_id, subject FROM client_identity") == ("a client", "second")


async def test_what_could_not_be_held_is_kept_as_it_came(admin: Any, postgres_log: PostgresLog) -> None:
    event = an_event("latency.sampled", payload=b"nonsense")
    batch = a_batch(new_id(), 1, [event])
    await postgres_log.append(batch)
    await postgres_log.append(batch)
    [letter] = await admin.fetch("SELECT letter_id, stage, reason, raw FROM dead_letter")
    assert (letter["letter_id"], letter["stage"]) == (event.event_id, "append")
    assert decode_event(letter["raw"]) == event


async def test_a_page_that_makes_endless_holes_does_not_grow_its_lane_for_ever(
    admin: Any, postgres_log: PostgresLog
) -> None:
    producer = new_id()
    for round_number in range(4):
        odd = range(round_number * 1_600 + 1, (round_number + 1) * 1_600, 2)
        events = [telemetry("page", seq) for seq in odd]
        assert (await postgres_log.append(a_batch(producer, round_number * 800 + 1, events))).stored == 800
    pieces = await admin.fetchval("SELECT count(*) FROM page_lane, unnest(seen)")
    assert 0 < pieces <= 1_000
    again = await postgres_log.append(a_batch(new_id(), 1, [telemetry("page", 1), telemetry("page", 6_399)]))
    assert again.stored == 0, "nothing that was seen is forgotten"
