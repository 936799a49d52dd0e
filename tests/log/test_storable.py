"""Whatever an event holds, what is left of it after the repair can be stored."""

from __future__ import annotations

import json

import asyncpg
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from log_events import an_event, telemetry

from pulsetrail.events import Event
from pulsetrail.log.storable import LATEST_US, in_range, is_json_object, page_seqs, repair, substitute

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)  # surrogates and NUL among them
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
payloads = st.dictionaries(texts, values, max_size=4).map(lambda value: json.dumps(value).encode())
events = st.builds(
    an_event,
    st.just("latency.sampled"),
    payload=payloads | st.binary(max_size=40),
    page_id=st.none() | texts,
    node_id=st.none() | texts,
    reason=st.none() | texts,
    connection_seq=st.none() | st.integers(),
    close_code=st.none() | st.integers(),
    node_epoch=st.none() | st.integers(),
    schema_version=st.integers(),
)


@given(events)
def test_a_repair_is_done_once(event: Event) -> None:
    assert repair(repair(event)) == repair(event)


@given(payloads)
def test_a_json_object_stays_one(payload: bytes) -> None:
    assert is_json_object(repair(an_event(payload=payload)).payload)


@given(st.dictionaries(st.text("abc\u00e9\U0001f600"), st.integers() | st.text('abc\n\\"')))
def test_what_needs_no_repair_keeps_its_meaning(value: dict[str, object]) -> None:
    for ascii_only in (True, False):
        payload = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert json.loads(repair(an_event(payload=payload)).payload) == value


@given(st.lists(st.integers(), min_size=1))
def test_times_are_brought_into_range_and_no_further(times: list[int]) -> None:
    held = in_range(times)
    assert all(0 <= value <= LATEST_US for value in held)
    assert all(now == before for now, before in zip(held, times, strict=True) if 0 <= before <= LATEST_US)


@given(payloads | st.binary(max_size=40))
def test_any_payload_has_an_identity_or_none(payload: bytes) -> None:
    found = page_seqs([telemetry("page", 0, payload=payload)])
    assert found is not None
    assert found == [None] or (isinstance(found[0], int) and 0 <= found[0] < 1 << 53)


def test_a_batch_without_browsers_has_no_identities_to_look_for() -> None:
    assert page_seqs([an_event(page_id="page", payload={"seq": 1})]) is None


async def test_postgres_takes_what_was_repaired_and_python_calls_a_json_object(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    found: list[bytes] = []

    @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(events)
    def collect(event: Event) -> None:
        repaired = repair(event)
        if not is_json_object(repaired.payload):
            repaired = substitute(repaired)
        found.append(repaired.payload)
        msgspec.msgpack.encode([repaired.node_id, repaired.page_id, repaired.reason])  # UTF-8 throughout

    collect()
    refused = await connection.fetchval("SELECT unstorable_payloads($1)", [payload.decode() for payload in found])
    await connection.close()
    assert [found[number - 1] for number in refused] == []
