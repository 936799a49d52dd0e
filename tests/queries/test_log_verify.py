"""`verify` finds nothing in a sound log, and names each kind of damage that is planted in one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from recorded_lives import EPOCH, Life, append, in_time, minted_in_turn, node_started, random_lives

from pulsetrail.close_codes import Reason
from pulsetrail.events import now_us
from pulsetrail.identity import new_id
from pulsetrail.log import Batch, Log
from pulsetrail.projections.runner import Projector, connect_pool
from pulsetrail.verify import Report, verify

UNPROTECTED = "SET session_replication_role = replica"
"""Triggers off: what is planted here no one could do by accident."""


@pytest.fixture
async def vandal(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    await connection.execute(UNPROTECTED)
    yield connection
    await connection.close()


@pytest.fixture
async def projector(database_url: str) -> AsyncIterator[Projector]:
    async with await connect_pool(database_url) as pool:
        yield Projector(pool)


async def found(connection: asyncpg.Connection) -> set[str]:
    report = await verify(connection, grace_seconds=0)
    assert [str(finding) for finding in report.findings] == [
        f"{finding.kind}: shard {finding.shard}, {finding.subject}: {finding.detail}" for finding in report.findings
    ]
    return {finding.kind for finding in report.findings}


async def test_a_sound_log_has_no_findings(postgres_log: Log, vandal: asyncpg.Connection, projector: Projector) -> None:
    lives = [life for shard in range(4) for life in random_lives(shard, 8, shard=shard)]
    await append(postgres_log, minted_in_turn(in_time(lives)))
    await projector.catch_up()
    steps = []
    report = await verify(vandal, progress=lambda what, done, total: steps.append((what, done, total)))
    assert report.is_sound, [str(finding) for finding in report.findings]
    assert report == Report(sum(len(life.events) for life in lives), 4, report.projections, [], [])
    assert len(report.projections) == 6
    assert steps[0] == ("order, doubles and ends", 0, 4)
    assert any("projection connections" in what for what, _, _ in steps)


async def test_a_missing_event_is_a_hole_with_its_position(
    postgres_log: Log, vandal: asyncpg.Connection, projector: Projector
) -> None:
    await append(postgres_log, Life().open().miss(31).recover(33).close(60).events)
    await projector.catch_up()
    await vandal.execute("DELETE FROM events WHERE position = 2")
    report = await verify(vandal)
    assert "hole: shard 0, position 2: missing; 1 events" in [str(finding) for finding in report.findings]


async def test_the_first_and_last_events_are_missed_too(postgres_log: Log, vandal: asyncpg.Connection) -> None:
    await append(postgres_log, Life().open().miss(31).recover(33).close(60).events)
    await vandal.execute("DELETE FROM events WHERE position IN (1, 4)")
    assert {"hole", "head"} <= await found(vandal)


async def test_an_event_that_is_there_twice_is_a_double(postgres_log: Log, vandal: asyncpg.Connection) -> None:
    life = Life().open().close(60)
    await append(postgres_log, life.events)
    await vandal.execute("UPDATE events SET event_id = $1", life.events[0].event_id)
    assert "double" in await found(vandal)


async def test_a_position_that_is_there_twice_is_named(postgres_log: Log, vandal: asyncpg.Connection) -> None:
    await append(postgres_log, Life().open().close(60).events)
    await vandal.execute(
        "INSERT INTO events SELECT (e).* FROM (SELECT jsonb_populate_record(e, jsonb_build_object("
        "'event_id', $1::text, 'recorded_at', e.recorded_at + interval '1 us')) AS e "
        "FROM events e WHERE position = 1) x",
        str(new_id()),
    )
    assert "double position" in await found(vandal)


async def test_telemetry_that_is_there_twice_is_named(postgres_log: Log, vandal: asyncpg.Connection) -> None:
    life = Life().open()
    life.account("socket.opened", 1)
    life.account("page.hidden", 2)
    await append(postgres_log, life.events)
    await vandal.execute("UPDATE events SET payload = payload || '{\"seq\": 5}' WHERE source = 'client'")
    assert "double account" in await found(vandal)


async def test_events_whose_places_were_swapped_are_named(postgres_log: Log, vandal: asyncpg.Connection) -> None:
    life = Life().open().miss(31).close(60)
    lane = await append(postgres_log, life.events[:1])
    for number, event in enumerate(life.events[1:], start=2):
        await asyncio.sleep(0.002)
        await append(postgres_log, [event], producer=lane, first_seq=number)
    await vandal.execute("UPDATE events SET position = 5 - position WHERE position IN (2, 3)")
    assert "swapped" in await found(vandal)


async def test_events_that_swapped_all_but_their_places_are_named(
    postgres_log: Log, vandal: asyncpg.Connection
) -> None:
    life = Life().open().miss(31).recover(33).close(60)
    lane = await append(postgres_log, life.events[:1])
    for number, event in enumerate(life.events[1:], start=2):
        await asyncio.sleep(0.002)
        await append(postgres_log, [event], producer=lane, first_seq=number)
    await vandal.execute("UPDATE events SET position = -position WHERE position IN (2, 3)")
    await vandal.execute(
        "UPDATE events SET position = 5 + position, "
        "recorded_at = CASE position WHEN -3 THEN o.earlier ELSE o.later END "
        "FROM (SELECT min(recorded_at) AS earlier, max(recorded_at) AS later FROM events WHERE position < 0) o "
        "WHERE position < 0"
    )
    report = await verify(vandal)
    assert (
        f"swapped: shard 0, position 3: number 2 of connection {life.connection_id}, after its number 3 at position 2"
    ) in [str(finding) for finding in report.findings]


async def test_a_connection_with_two_ends_is_named(
    postgres_log: Log, vandal: asyncpg.Connection, projector: Projector
) -> None:
    life = Life().open().close(60).crash(61)
    await append(postgres_log, life.events)
    await projector.catch_up()
    report = await verify(vandal)
    assert [(finding.kind, finding.subject) for finding in report.findings] == [
        ("two ends", f"connection {life.connection_id}")
    ]


@pytest.mark.parametrize("how", ["fenced", "stopped", "started again", "gave its lease back"])
async def test_a_connection_without_an_end_on_a_node_that_is_over_is_named(
    postgres_log: Log, vandal: asyncpg.Connection, projector: Projector, how: str
) -> None:
    life = Life().open()
    running = Life(node="heron-1").open()
    await append(postgres_log, [*life.events, *running.events])
    if how == "fenced":
        await postgres_log.renew_lease("otter-0", EPOCH, 60)
        await vandal.execute("UPDATE node_lease SET fenced_at = now() WHERE node_id = 'otter-0'")
    elif how == "gave its lease back":
        await postgres_log.release_lease("otter-0", EPOCH)
    elif how == "started again":
        await append(postgres_log, [node_started("otter-0", EPOCH + 1, shard=2)])
    else:
        stopped = node_started("otter-0", EPOCH, shard=2)
        await append(postgres_log, [stopped])
        await vandal.execute("UPDATE events SET event_type = 'node.stopped' WHERE event_id = $1", stopped.event_id)
    await projector.catch_up()
    report = await verify(vandal, grace_seconds=-1)
    assert [(finding.kind, finding.subject) for finding in report.findings] == [
        ("no end", f"connection {life.connection_id}")
    ]
    assert (await verify(vandal, grace_seconds=60)).is_sound, "its end may still be on its way"


async def test_an_end_without_an_opening_is_named(postgres_log: Log, vandal: asyncpg.Connection) -> None:
    life = Life().open().close(5)
    await append(postgres_log, life.events[1:])
    assert "no opening" in await found(vandal)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("last_seq = last_seq + 1", "lane ahead: at row 5, but 4 are accounted for: 2 stored, 2 not"),
        ("last_seq = last_seq - 1", "lane behind: at row 3, but 4 are accounted for: 2 stored, 2 not"),
        ("skipped = skipped - 2", "lane ahead: at row 4, but 2 are accounted for: 2 stored, 0 not"),
        ("stored = stored - 1, skipped = skipped + 1", "lane behind: stored 1 rows, the log has had 2"),
        ("stored = stored + 1, last_seq = last_seq + 1", "lane ahead: stored 3 rows, the log has had 2"),
    ],
)
async def test_a_lane_that_is_ahead_or_behind_is_named(
    postgres_log: Log, vandal: asyncpg.Connection, projector: Projector, change: str, said: str
) -> None:
    life = Life().open()
    told = life.account("page.hidden", 2)
    lane = await append(postgres_log, life.events)
    again = Batch(0, lane, 3, [told, told], now_us())
    assert (await postgres_log.append(again)).duplicates == 2
    await projector.catch_up()
    assert (await verify(vandal)).is_sound
    await vandal.execute(f"UPDATE producer_lane SET {change}")  # noqa: S608  # a parameter of this test
    report = await verify(vandal)
    assert [f"{finding.kind}: {finding.detail}" for finding in report.findings] == [said]


async def test_rows_that_are_lost_for_good_are_accounted_for(
    postgres_log: Log, vandal: asyncpg.Connection, projector: Projector
) -> None:
    life = Life().open().close(60)
    await postgres_log.append(Batch(0, new_id(), 8, life.events, now_us(), fill_hole=True))
    await projector.catch_up()
    assert (await verify(vandal)).is_sound


async def test_the_place_in_a_pages_lane_that_is_ahead_or_behind_is_named(
    postgres_log: Log, vandal: asyncpg.Connection, projector: Projector
) -> None:
    life = Life()
    life.account_seq = 10
    for after in range(6):
        life.account("page.hidden", after)
    await append(postgres_log, life.events)
    await projector.catch_up()
    await vandal.execute("UPDATE page_lane SET seen = seen - '{[12,13),[14,16)}' + '{[3,4),[20,23)}'")
    assert [str(finding) for finding in (await verify(vandal)).findings] == [
        "lane ahead: shard 0, page page: holds sequences 3, 20 to 22, which are not in the log",
        "lane behind: shard 0, page page: lacks sequences 12, 14 to 15, which are in the log",
    ]
    await vandal.execute(
        "UPDATE log_shard SET truncated_before = 2 WHERE shard = 0; DELETE FROM events WHERE position = 1"
    )
    kinds = [finding.kind for finding in (await verify(vandal, compare_projections=False)).findings]
    assert kinds == ["lane behind"], "what retention dropped is in the lanes still"


async def test_a_page_that_made_too_many_holes_is_sound(
    postgres_log: Log, vandal: asyncpg.Connection, projector: Projector
) -> None:
    life = Life()
    for after in range(2_200):
        life.account_seq = after * 2
        life.account("page.hidden", after)
    await append(postgres_log, life.events)
    assert await vandal.fetchval("SELECT forgotten_before FROM page_lane") > 0
    await projector.catch_up()
    assert (await verify(vandal)).is_sound


@pytest.mark.parametrize(
    ("projection", "damage", "said"),
    [
        ("connections_v1", "UPDATE connections_v1 SET reason = 'normal'", "reason is normal, the log says peer_reset"),
        ("connections_v1", "DELETE FROM connections_v1", "the projection has none"),
        ("closes_v1", "UPDATE closes_v1 SET closes = 2", "closes is 2, the log says 1"),
        ("counters_v1", "DELETE FROM counters_v1 WHERE metric = 'duration_ms'", "the projection has none"),
        ("nodes_v1", "UPDATE nodes_v1 SET connections_opened = 7", "connections_opened is 7, the log says 1"),
        (
            "clients_v1",
            "INSERT INTO clients_v1 SELECT shard, gen_random_uuid(), first_seen_at, last_seen_at, 1, 0, 0, 0, 0, "
            "last_recorded_at FROM clients_v1",
            "the log says nothing of it",
        ),
    ],
)
async def test_a_projection_that_disagrees_is_named_with_the_row(
    postgres_log: Log,
    vandal: asyncpg.Connection,
    projector: Projector,
    projection: str,
    damage: str,
    said: str,
) -> None:
    await append(postgres_log, Life().open().close(60, Reason.PEER_RESET).events)
    await projector.catch_up()
    await vandal.execute(damage)
    report = await verify(vandal)
    assert {finding.kind for finding in report.findings} == {"projection disagrees"}
    assert projection in report.findings[0].subject
    assert said in report.findings[0].detail
    assert (await verify(vandal, compare_projections=False)).is_sound


async def test_a_source_gap_and_a_degraded_projection_are_findings(
    postgres_log: Log, vandal: asyncpg.Connection, projector: Projector
) -> None:
    opened, _, recovered = Life().open().miss(31).recover(33).events
    await append(postgres_log, [opened, recovered])
    await projector.catch_up()
    await vandal.execute(
        "UPDATE projection_checkpoint SET status = 'degraded' WHERE projection = 'nodes' AND shard = 1"
    )
    assert await found(vandal) == {"source gap", "degraded"}
