"""What is folded does not depend on how it came: the size of the batches, the order of the accounts, the build."""

from __future__ import annotations

from random import Random
from typing import Any

import asyncpg
import msgspec
import pytest
from recorded_lives import EPOCH, Life, all_rows, append, in_time, node_started, random_lives, rejected, start_over

from pulsetrail.close_codes import Reason
from pulsetrail.events import Event, Previous
from pulsetrail.identity import new_id
from pulsetrail.log import Log
from pulsetrail.projections.builds import promote, rebuild
from pulsetrail.projections.figures import figures
from pulsetrail.projections.runner import Projector

PLACES = frozenset({"shard", "opened_position", "ended_position", "last_ended_position", "last_recorded_at"})
"""Columns that say where in the log something is."""


@pytest.mark.parametrize("seed", [1, 2])
async def test_batches_of_1_7_and_5000_events_give_identical_rows(
    database_url: str, postgres_log: Log, pool: asyncpg.Pool, seed: int
) -> None:
    await append(postgres_log, [rejected(7), *in_time(random_lives(seed)), rejected(5, "origin")])
    results = []
    for size in (1, 7, 5_000):
        await start_over(database_url)
        await Projector(pool, batch_events=size).catch_up()
        results.append(await all_rows(pool))
    assert results[0] == results[2], "batches of 1 and of 5,000 differ"
    assert results[1] == results[2], "batches of 7 and of 5,000 differ"
    assert all(results[0][table] for table in ("connections", "closes", "closes_open", "clients", "nodes", "counters"))


def arriving_otherwise(events: list[Event], shard: int, how: str, seed: int) -> list[Event]:
    """The same events in another shard, the clients' accounts at other places; the gateway's keep their order."""
    server = [event for event in events if event.source != "client"]
    accounts = [event for event in events if event.source == "client"]
    random = Random(seed)
    if how == "first":
        stream = accounts + server
    elif how == "last, backwards":
        stream = server + accounts[::-1]
    else:
        random.shuffle(accounts)
        stream = list(server)
        for account in accounts:
            stream.insert(random.randrange(len(stream) + 1), account)
    return [
        msgspec.structs.replace(
            event, shard=shard, event_id=new_id(), page_id=event.page_id and f"{event.page_id} of {shard}"
        )
        for event in stream
    ]


@pytest.mark.parametrize("seed", [3, 4])
async def test_accounts_that_come_early_late_or_shuffled_give_identical_rows(
    postgres_log: Log, pool: asyncpg.Pool, seed: int
) -> None:
    events = in_time(random_lives(seed))
    orders = ("first", "last, backwards", "shuffled")
    for shard, how in enumerate(orders):
        await append(postgres_log, arriving_otherwise(events, shard, how, seed))
    await Projector(pool, batch_events=11).catch_up()
    rows = await all_rows(pool)

    def of_shard(shard: int) -> dict[str, Any]:
        return {
            table: sorted(
                (
                    {
                        name: value.removesuffix(f" of {shard}") if name == "page_id" else value
                        for name, value in row.items()
                        if name not in PLACES
                    }
                    for row in table_rows
                    if row["shard"] == shard
                ),
                key=repr,
            )
            for table, table_rows in rows.items()
        }

    assert of_shard(0)["connections"]
    for shard in (1, 2):
        for table, expected in of_shard(0).items():
            assert of_shard(shard)[table] == expected, f"{table}: {orders[shard]} differs from {orders[0]}"


async def test_a_rebuilt_projection_equals_the_live_one_row_by_row(
    postgres_log: Log, pool: asyncpg.Pool, owner: asyncpg.Connection, projector: Projector
) -> None:
    await append(postgres_log, in_time(random_lives(5)))
    await projector.catch_up()
    builds = {name: await rebuild(owner, name) for name in ("connections", "closes", "counters", "source_gaps")}
    await append(postgres_log, in_time(random_lives(6)))
    await Projector(pool, batch_events=13).catch_up()
    live, rebuilt = await all_rows(pool), await all_rows(pool, builds)
    assert live["connections"]
    assert rebuilt == live


async def test_promoting_puts_the_same_views_in_front_of_the_new_tables(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    await append(postgres_log, in_time(random_lives(7)))
    await projector.catch_up()
    views = "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public' ORDER BY 1"
    before, rows = await owner.fetch(views), await owner.fetch("SELECT * FROM connections ORDER BY connection_id")
    for name in ("connections", "closes", "clients", "nodes", "counters", "source_gaps"):
        await rebuild(owner, name)
        await projector.catch_up()
        assert await promote(owner, name) == 2
    after = await owner.fetch(views)
    assert [(row[0], row[1].replace("_v2", "_v1")) for row in after] == [tuple(row) for row in before]
    assert await owner.fetch("SELECT * FROM connections ORDER BY connection_id") == rows
    assert not await owner.fetchval("SELECT to_regclass('connections_v1') IS NOT NULL")


async def test_a_connection_row_holds_both_accounts_and_the_gap_to_the_one_before(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    first = Life().open().miss(31).stale(61).sample(70, least=700, offset=9).close(90, Reason.PEER_RESET)
    first.account("socket.closed", 90.2, code=1006, clean=False, cause="none")
    first.account("backoff.scheduled", 90.3, delay_ms=2000.4, attempt=1)
    plain = Life(opened_at=first.opened_at + 95_000_000).open().sample(5, least=800).sample(9, least=600, offset=3)
    plain.close(20)
    hinted = Life(opened_at=first.opened_at + 120_000_000, page="another page")
    hinted.open(previous=Previous(connection=first.connection_id, code=1006, clean=False, backoff_ms=2000))
    await append(postgres_log, in_time([first, plain, hinted]))
    await projector.catch_up()
    rows = {row["connection_id"]: row for row in await owner.fetch("SELECT * FROM connections")}
    ended = rows[first.connection_id]
    assert (ended["reason"], ended["initiator"], ended["wire_code"], ended["duration_ms"]) == (
        "peer_reset",
        "unknown",
        None,
        90_000,
    )
    assert msgspec.json.decode(ended["evidence"])["rtt_us"] == [1200, 900]
    assert (ended["heartbeats_missed"], ended["is_stale"], ended["is_open"]) == (1, False, False)
    assert (ended["client_closed_code"], ended["client_backoff_ms"], ended["client_attempt"]) == (1006, 2000, 1)
    assert ended["previous_connection_id"] is None
    after = rows[plain.connection_id]
    assert (after["previous_connection_id"], after["previous_reason"], after["gap_ms"]) == (
        first.connection_id,
        "peer_reset",
        5_000,
    )
    assert (after["latency_min_us"], after["latency_count"], after["clock_offset_ms"]) == (600, 8, 3)
    named = rows[hinted.connection_id]
    assert (named["previous_connection_id"], named["gap_ms"], named["is_open"]) == (first.connection_id, 30_000, True)


async def test_a_late_report_is_evidence_and_not_an_end(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    life = Life().open()
    late = life.close(50, Reason.SERVER_SHUTDOWN, close_code=1012).events.pop()
    body = msgspec.json.decode(late.payload) | {"reported_as": "connection.closed"}
    late = msgspec.structs.replace(late, event_type="connection.end_reported_late", payload=msgspec.json.encode(body))
    await append(postgres_log, [*life.events, late])
    await projector.catch_up()
    row = await owner.fetchrow("SELECT * FROM connections")
    assert (row["is_open"], row["reason"], row["terminal_events"]) == (True, None, 0)
    assert (row["late_reported_as"], row["late_reason"], row["late_wire_code"]) == (
        "connection.closed",
        "server_shutdown",
        1012,
    )
    assert await owner.fetchval("SELECT open_connections FROM nodes") == 1


async def test_closes_know_the_release_and_browser_of_what_ended(
    postgres_log: Log, owner: asyncpg.Connection, pool: asyncpg.Pool
) -> None:
    lives = [Life(f"client {n}").open(release=f"2.{n % 2}", browser="chrome").close(61 + n) for n in range(4)]
    await append(postgres_log, in_time(lives))
    await Projector(pool, batch_events=3).catch_up()
    rows = await owner.fetch("SELECT release, browser, reason, initiator, node_id, closes FROM closes ORDER BY 1")
    assert [tuple(row) for row in rows] == [
        ("2.0", "chrome", "normal", "client", "otter-0", 2),
        ("2.1", "chrome", "normal", "client", "otter-0", 2),
    ]


async def test_holes_in_the_numbering_of_a_connection_are_named_until_they_fill(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    life = Life().open().miss(31).recover(33).close(60)
    opened, missed, recovered, closed = life.events
    await append(postgres_log, [opened, recovered, closed])
    await projector.catch_up()
    gap = await owner.fetchrow("SELECT kind, subject, missing FROM source_gaps")
    assert tuple(gap) == ("connection", str(life.connection_id), 1)
    await append(postgres_log, [missed])
    await projector.catch_up()
    assert await owner.fetch("SELECT * FROM source_gaps") == []
    assert await owner.fetchval("SELECT count(*) FROM source_gaps_connection_v1") == 0


async def test_the_figures_count_what_the_log_says(
    postgres_log: Log, owner: asyncpg.Connection, projector: Projector
) -> None:
    gone = Life().open().miss(31).sample(40).close(60, Reason.PEER_RESET)
    back = Life(opened_at=gone.opened_at + 61_500_000).open().miss(31).stale(62)
    await append(postgres_log, [node_started("otter-0", EPOCH), rejected(40), *in_time([gone, back])])
    await projector.catch_up()
    told = await figures(owner)
    assert (told.connections_opened, told.heartbeats_missed, told.stale_clients, told.source_gaps) == (2, 2, 1, 0)
    assert told.disconnections == {("peer_reset", "unknown"): 1}
    assert told.handshakes_rejected == {"rate_limited": 40}
    assert told.reconnects == {"peer_reset": 1}
    assert told.clients == {"otter-0": 1}
    assert told.duration is not None
    assert told.downtime is not None
    assert told.heartbeat_rtt is not None
    assert (told.duration.sum, told.duration.counts[told.duration.bounds.index(60.0)]) == (60.0, 1)
    assert (told.downtime.sum, told.downtime.counts[told.downtime.bounds.index(2.5)]) == (1.5, 1)
    assert (told.heartbeat_rtt.counts[0], told.heartbeat_rtt.counts[-1], told.heartbeat_rtt.sum) == (3, 1, 40.003)
