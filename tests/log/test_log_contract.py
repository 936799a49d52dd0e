"""What every log promises; the one in memory and the one in Postgres are held to the same tests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from log_events import EPOCH, NODE, REF, a_batch, an_event, everything, of_node, telemetry

from pulsetrail.errors import ClockSkew, LaneGap, LogUnavailable
from pulsetrail.events import Event, now_us
from pulsetrail.identity import ClientIdentity, new_id
from pulsetrail.log import MAX_BATCH, Cursor, FencedEpoch, Log
from pulsetrail.log.memory import MemoryLog
from pulsetrail.log.postgres import PostgresLog


@pytest.fixture(params=["memory", "postgres"])
def where(request: pytest.FixtureRequest) -> str | None:
    """URL of the log's database; none for the log in memory."""
    return request.getfixturevalue("database_url") if request.param == "postgres" else None


@pytest.fixture
async def log(where: str | None) -> AsyncIterator[Log]:
    log: Log = MemoryLog() if where is None else await PostgresLog.connect(where, application_name="test")
    yield log
    await log.close()


PRODUCER = UUID(int=1)


async def fence(log: Log) -> list[FencedEpoch]:
    """Let the tests' node lose its lease."""
    await log.renew_lease(NODE, EPOCH, 0.0)
    await asyncio.sleep(0.002)
    return await log.fence_expired()


async def test_a_deployment_has_shards_and_a_key(log: Log) -> None:
    deployment = await log.deployment()
    assert deployment.shards == 4
    assert len(deployment.client_key) == 32


async def test_an_event_is_read_as_it_was_appended(log: Log) -> None:
    event = an_event(
        "connection.closed",
        payload={"initiator": "client", "evidence": {"rtt_us": [1, 2]}, "text": "déjà vu ✓"},
        connection_id=new_id(),
        connection_seq=7,
        node_id=NODE,
        node_epoch=EPOCH,
        page_id="page",
        reason="normal",
        close_code=1000,
        occurred_at=1_700_000_000_123_457,
    )
    appended = await log.append(a_batch(PRODUCER, 1, [event]))
    [recorded] = await log.read_after(0, Cursor(), 10)
    assert recorded.position == 1
    assert abs(recorded.recorded_at - now_us()) < 60_000_000
    assert appended.head == Cursor(1, recorded.recorded_at)
    assert msgspec.structs.replace(recorded.event, payload=b"") == msgspec.structs.replace(event, payload=b"")
    assert json.loads(recorded.event.payload) == json.loads(event.payload)


async def test_positions_of_a_shard_count_from_one_without_gaps(log: Log) -> None:
    for start in range(1, 31, 10):
        await log.append(a_batch(PRODUCER, start, [an_event() for _ in range(10)]))
    recorded = await log.read_after(0, Cursor(), 100)
    assert [row.position for row in recorded] == list(range(1, 31))
    assert [row.recorded_at for row in recorded] == sorted(row.recorded_at for row in recorded)
    assert await log.head(0) == Cursor(30, recorded[-1].recorded_at)


async def test_every_append_has_a_time_of_its_own_also_when_several_wait_for_each_other(log: Log) -> None:
    batches = [a_batch(new_id(), 1, [an_event() for _ in range(3)]) for _ in range(40)]
    appended = await asyncio.gather(*(log.append(batch) for batch in batches))
    times = {answer.head.recorded_at for answer in appended}
    assert len(times) == 40
    assert {row.recorded_at for row in await log.read_after(0, Cursor(), 1_000)} == times


async def test_shards_have_positions_of_their_own(log: Log) -> None:
    await log.append(a_batch(PRODUCER, 1, [an_event(shard=0)] * 3))
    await log.append(a_batch(PRODUCER, 1, [an_event(shard=2)], shard=2))
    assert (await log.head(0)).position == 3
    assert (await log.head(2)).position == 1
    assert await log.head(1) == Cursor(0, 0)
    assert await log.lane(2, PRODUCER) == 1


async def test_a_reader_goes_on_from_its_cursor(log: Log) -> None:
    await log.append(a_batch(PRODUCER, 1, [an_event() for _ in range(10)]))
    cursor, seen = Cursor(), []
    while rows := await log.read_after(0, cursor, 3):
        seen += [row.position for row in rows]
        cursor = Cursor(rows[-1].position, rows[-1].recorded_at)
    assert seen == list(range(1, 11))


async def test_a_batch_sent_again_stores_nothing(log: Log) -> None:
    batch = a_batch(PRODUCER, 1, [an_event() for _ in range(5)])
    first = await log.append(batch)
    again = await log.append(batch)
    assert (first.stored, first.duplicates, first.last_seq) == (5, 0, 5)
    assert (again.stored, again.duplicates, again.last_seq) == (0, 5, 5)
    assert again.head == first.head
    assert len(await everything(log)) == 5


async def test_a_batch_that_overlaps_the_lane_stores_the_rest(log: Log) -> None:
    events = [an_event() for _ in range(8)]
    await log.append(a_batch(PRODUCER, 1, events[:5]))
    appended = await log.append(a_batch(PRODUCER, 3, events[2:]))
    assert (appended.stored, appended.duplicates, appended.last_seq) == (3, 3, 8)
    assert [event.event_id for event in await everything(log)] == [event.event_id for event in events]


async def test_a_batch_after_a_hole_is_refused(log: Log) -> None:
    await log.append(a_batch(PRODUCER, 1, [an_event()]))
    with pytest.raises(LaneGap) as refused:
        await log.append(a_batch(PRODUCER, 3, [an_event()]))
    assert (refused.value.last_seq, refused.value.first_seq) == (1, 3)
    assert len(await everything(log)) == 1


async def test_a_hole_that_cannot_be_filled_is_jumped_on_demand(log: Log) -> None:
    await log.append(a_batch(PRODUCER, 1, [an_event()]))
    appended = await log.append(a_batch(PRODUCER, 5, [an_event(), an_event()], fill_hole=True))
    assert (appended.stored, appended.last_seq, appended.head.position) == (2, 6, 3)


async def test_a_lane_that_nobody_wrote_ends_at_zero(log: Log) -> None:
    assert await log.lane(0, new_id()) == 0


async def test_an_empty_batch_says_where_the_lane_ends(log: Log) -> None:
    await log.append(a_batch(PRODUCER, 1, [an_event()]))
    appended = await log.append(a_batch(PRODUCER, 2, []))
    assert (appended.last_seq, appended.stored, appended.head.position) == (1, 0, 1)


@pytest.mark.parametrize("fields", [{"shard": 4}, {"shard": -1}, {"events": [an_event()] * (MAX_BATCH + 1)}])
async def test_a_batch_for_no_shard_or_too_long_is_a_programming_error(log: Log, fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"shard|at most"):
        await log.append(a_batch(PRODUCER, 1, [an_event()])._replace(**fields))


@pytest.mark.parametrize("minutes", [-6, 6])
async def test_append_refuses_when_the_clocks_have_parted(log: Log, minutes: int) -> None:
    with pytest.raises(ClockSkew) as refused:
        await log.append(a_batch(PRODUCER, 1, [an_event()], steady_now_us=now_us() + minutes * 60_000_000))
    assert refused.value.seconds == pytest.approx(-minutes * 60, abs=30)
    assert await log.lane(0, PRODUCER) == 0


async def test_telemetry_that_a_browser_sends_again_stores_nothing(log: Log) -> None:
    first = [telemetry("page", seq) for seq in range(5)]
    await log.append(a_batch(PRODUCER, 1, first))
    # The same events by another collector's journal, with newer ones and another page's among them.
    mixed = [telemetry("page", seq) for seq in (3, 4, 5)] + [telemetry("other", 3), telemetry("page", 5)]
    appended = await log.append(a_batch(new_id(), 1, mixed))
    assert (appended.stored, appended.duplicates, appended.last_seq) == (2, 3, 5)
    assert [(event.page_id, json.loads(event.payload)["seq"]) for event in await everything(log)] == [
        *(("page", seq) for seq in range(5)),
        ("page", 5),
        ("other", 3),
    ]


async def test_telemetry_may_come_late_and_out_of_order(log: Log) -> None:
    await log.append(a_batch(PRODUCER, 1, [telemetry("page", seq) for seq in (9, 2, 7)]))
    appended = await log.append(a_batch(PRODUCER, 4, [telemetry("page", seq) for seq in (1, 2, 3, 7, 8, 9, 0)]))
    assert (appended.stored, appended.duplicates) == (4, 3)


async def test_an_overlapping_batch_keeps_the_telemetry_it_adds(log: Log) -> None:
    events = [telemetry("page", seq) for seq in range(6)]
    await log.append(a_batch(PRODUCER, 1, events[:3]))
    appended = await log.append(a_batch(PRODUCER, 1, events))
    assert (appended.stored, appended.last_seq) == (3, 6)


@pytest.mark.parametrize("seq", [None, "7", 1.5, True, -1, 1 << 53, 1 << 70, [], {}])
async def test_a_sequence_that_is_no_number_is_no_identity(log: Log, seq: Any) -> None:
    payload = json.dumps({"seq": seq}).encode()
    appended = await log.append(a_batch(PRODUCER, 1, [telemetry("page", 0, payload=payload) for _ in range(2)]))
    assert appended.stored == 2


async def test_only_a_browsers_events_have_a_page_lane(log: Log) -> None:
    events = [an_event(page_id="page", payload={"seq": 1}), telemetry("page", 1), an_event(payload={"seq": 1})]
    assert (await log.append(a_batch(PRODUCER, 1, events))).stored == 3


# --- leases -------------------------------------------------------------------------------------------------------


async def test_a_lease_is_held_while_it_is_renewed(log: Log) -> None:
    state = await log.renew_lease(NODE, EPOCH, 15.0)
    assert not state.fenced
    assert state.expires_at == pytest.approx(now_us() + 15_000_000, abs=10_000_000)
    assert await log.fence_expired() == []


async def test_a_lease_that_ran_out_is_fenced_once_and_for_good(log: Log) -> None:
    await log.append(a_batch(PRODUCER, 1, [an_event()]))
    assert await fence(log) == [FencedEpoch(NODE, EPOCH, (1, 0, 0, 0))]
    assert await log.fence_expired() == []
    assert (await log.renew_lease(NODE, EPOCH, 15.0)).fenced
    assert not (await log.renew_lease(NODE, EPOCH + 1, 15.0)).fenced


async def test_a_late_renewal_before_the_fence_keeps_the_lease(log: Log) -> None:
    await log.renew_lease(NODE, EPOCH, 0.0)
    await log.renew_lease(NODE, EPOCH, 15.0)
    assert await log.fence_expired() == []


async def test_a_lease_that_was_given_back_is_not_fenced(log: Log) -> None:
    await log.renew_lease(NODE, EPOCH, 0.0)
    await log.release_lease(NODE, EPOCH)
    await asyncio.sleep(0.002)
    assert await log.fence_expired() == []


async def test_a_fenced_lease_cannot_be_given_back(log: Log) -> None:
    await fence(log)
    await log.release_lease(NODE, EPOCH)
    assert (await log.renew_lease(NODE, EPOCH, 15.0)).fenced


async def test_an_end_told_by_a_fenced_epoch_is_evidence_and_no_end(log: Log) -> None:
    open_one, ended = new_id(), new_id()
    await log.append(
        a_batch(PRODUCER, 1, [of_node("connection.opened", open_one), of_node("connection.closed", ended)])
    )
    await fence(log)
    late = of_node("connection.closed", open_one, payload={"duration_ms": 5}, reason="normal", close_code=1000)
    other = of_node("connection.closed", new_id(), node_epoch=EPOCH + 1)
    lost = of_node("connection.lost", open_one, reason="server_crashed")
    appended = await log.append(a_batch(PRODUCER, 3, [of_node("heartbeat.missed", open_one), late, other, lost]))
    assert appended.stored == 4
    events = await everything(log)
    assert [event.event_type for event in events] == [
        "connection.opened",
        "connection.closed",
        "heartbeat.missed",
        "connection.end_reported_late",
        "connection.closed",
        "connection.end_reported_late",
    ]
    assert json.loads(events[3].payload) == {"duration_ms": 5, "reported_as": "connection.closed"}
    assert (events[3].event_id, events[3].reason, events[3].close_code) == (late.event_id, "normal", 1000)
    assert json.loads(events[5].payload) == {"reported_as": "connection.lost"}


async def test_the_reaper_may_end_what_a_fenced_epoch_left(log: Log) -> None:
    await fence(log)
    await log.append(a_batch(PRODUCER, 1, [of_node("connection.lost", new_id(), source="reaper")]))
    assert [event.event_type for event in await everything(log)] == ["connection.lost"]


async def test_a_fenced_epoch_may_still_tell_what_it_opened(log: Log) -> None:
    await fence(log)
    await log.append(a_batch(PRODUCER, 1, [of_node("connection.opened", new_id())]))
    assert [event.event_type for event in await everything(log)] == ["connection.opened"]


# --- identities ---------------------------------------------------------------------------------------------------


async def test_identities_may_be_remembered_again_and_again(log: Log) -> None:
    await log.remember([])
    await log.remember([ClientIdentity(REF, "a client"), ClientIdentity(REF, "a client")])
    await log.remember([ClientIdentity(REF, "a client", "somebody"), ClientIdentity(new_id(), "nul \0 \ud800")])


# --- what an event may hold -----------------------------------------------------------------------------------------

HOSTILE = {
    "NUL in a string": b'{"a":"x\\u0000y"}',
    "NUL in a name": b'{"a\\u0000":1}',
    "raw NUL": b'{"a":"\x00"}',
    "lone surrogate": b'{"a":"\\ud800"}',
    "reversed surrogates": b'{"a":"\\udc00\\ud800"}',
    "no JSON": b"{nonsense",
    "nothing": b"",
    "no object": b"[1,2]",
    "NaN": b'{"a":NaN}',
    "no UTF-8": b'{"a":"\xff\xfe"}',
    "too deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "huge number": b'{"a":' + b"9" * 200_000 + b"}",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
async def test_no_payload_blocks_a_lane(log: Log, payload: bytes) -> None:
    good = [an_event() for _ in range(3)]
    opened, noise = an_event("connection.opened", payload=payload), an_event("latency.sampled", payload=payload)
    batch = a_batch(PRODUCER, 1, [good[0], opened, good[1], noise, good[2]])
    assert (await log.append(batch)).stored == 5
    assert (await log.append(batch)).stored == 0
    events = await everything(log)
    assert [event.event_id for event in events] == [event.event_id for event in batch.events]
    assert events[1].event_type == "connection.opened", "a lifecycle event is never dropped"
    if events[3].event_type == "events.dropped":
        assert json.loads(events[3].payload) == {"event_class": "detail", "cause": "unstorable", "count": 1}
        assert json.loads(events[1].payload) == {"unstorable": True}
    assert (await log.append(a_batch(PRODUCER, 6, [an_event()]))).last_seq == 6


async def test_a_character_that_cannot_be_held_is_replaced(log: Log) -> None:
    payload = b'{"a":"x\\u0000y","b":["\\ud800"],"c\\u0000":1,"d":"\\ud83d\\ude00"}'
    await log.append(a_batch(PRODUCER, 1, [an_event(payload=payload, page_id="p\0", reason="r\udfff", node_id="\0")]))
    [event] = await everything(log)
    assert json.loads(event.payload) == {"a": "x\ufffdy", "b": ["\ufffd"], "c\ufffd": 1, "d": "\U0001f600"}
    assert (event.page_id, event.reason, event.node_id) == ("p\ufffd", "r\ufffd", "\ufffd")


@pytest.mark.parametrize(
    ("fields", "held"),
    [
        ({"occurred_at": -1}, {"occurred_at": 0}),
        ({"occurred_at": 1 << 80}, {"occurred_at": (1 << 53) - 1}),
        ({"received_at": 1 << 62}, {"received_at": (1 << 53) - 1}),
        ({"connection_seq": 1 << 40}, {"connection_seq": None}),
        ({"close_code": 1 << 31}, {"close_code": None}),
        ({"node_epoch": 1 << 63}, {"node_epoch": None}),
        ({"schema_version": 1 << 15}, {"schema_version": 0}),
    ],
)
async def test_a_number_out_of_range_blocks_no_lane(log: Log, fields: dict[str, Any], held: dict[str, Any]) -> None:
    event: Event = an_event(**fields)
    await log.append(a_batch(PRODUCER, 1, [an_event(), event]))
    assert (await everything(log))[1] == msgspec.structs.replace(event, **held)


# --- waiting ------------------------------------------------------------------------------------------------------


async def test_waiting_ends_with_an_append(log: Log) -> None:
    waiter = asyncio.create_task(log.wait(60.0))
    while not (await log.append(a_batch(new_id(), 1, [an_event()]))).stored or not waiter.done():
        await asyncio.sleep(0)
    await waiter


async def test_waiting_ends_at_its_time_when_nothing_comes(log: Log) -> None:
    async with asyncio.timeout(5.0):
        await log.wait(0.01)


async def test_a_closed_log_answers_nothing(log: Log) -> None:
    await log.close()
    with pytest.raises(LogUnavailable):
        await log.head(0)
