import json
import time
from typing import Any

import pytest
from collector_batches import batch, client_event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pulsetrail.events import CATALOGUE, Event, Source, decode_event, encode_event, now_us
from pulsetrail_collector import intake
from pulsetrail_collector.intake import MalformedBatch, take_in
from pulsetrail_collector.reports import TYPES, take_in_reports
from pulsetrail_collector.schemas import ALL_TYPES, TEXT_LENGTH, VOCABULARIES, tag_of

KEY = b"k" * 32

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=400),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=20), children, max_size=4),
    max_leaves=10,
)
FIELDS = sorted({name for event_type in ALL_TYPES for name in event_type.__struct_fields__})
HOSTILE_EVENT = st.builds(
    lambda kind, extra: {"seq": 1, "wall": 1e12, "mono": 5, "type": kind, **extra},
    st.sampled_from([tag_of(event_type) for event_type in ALL_TYPES]) | st.text(max_size=30),
    st.dictionaries(st.sampled_from(FIELDS), ANY_JSON, max_size=5),
)
HOSTILE_BATCH = st.builds(
    lambda events, extra: batch(*events, **extra),
    st.lists(HOSTILE_EVENT | ANY_JSON, max_size=5),
    st.dictionaries(
        st.sampled_from([*batch(), "unknown"]) | st.text(max_size=10),
        ANY_JSON,
        max_size=3,
    ),
)


SOUND = json.dumps(batch(client_event(1, detail="é\u0000"), client_event(2, "socket.closed"))).encode()


def taken(raw: bytes) -> list[Event]:
    detail = ""
    events: list[Event] = []
    try:
        events = take_in(raw, now_us(), key=KEY, shards=4).events
    except MalformedBatch as fault:
        detail = fault.detail
    assert len(detail) <= intake.REASON_LENGTH
    assert detail.isprintable()
    return events


def texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in texts(item)]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return []


def assert_sound(event: Event) -> None:
    assert decode_event(encode_event(event)) == event
    assert event.event_type in CATALOGUE
    assert Source(event.source) in CATALOGUE[event.event_type].sources
    assert 0 <= event.shard < 4
    payload = json.loads(event.payload)
    for text in texts(payload):
        assert text.isprintable()
        assert len(text) <= TEXT_LENGTH
    for name, vocabulary in VOCABULARIES.items():
        for part in (payload, payload.get("ctx", {})):
            assert part.get(name, "other") in vocabulary | {"other"}


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(HOSTILE_BATCH)
def test_what_is_taken_from_a_hostile_batch_is_sound(hostile: dict[str, Any]) -> None:
    for event in taken(json.dumps(hostile).encode()):
        assert_sound(event)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_bytes_that_are_no_batch_are_malformed_and_nothing_worse(raw: bytes) -> None:
    assert taken(raw) == []
    with pytest.raises(MalformedBatch):
        take_in_reports(b"\x00" + raw, now_us(), prefix="unknown", shard=0)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_batch_never_makes_it_fail(data: st.DataObject) -> None:
    raw = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    for event in taken(bytes(raw)):
        assert_sound(event)


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 100_000,
        b'{"events":' + b"[" * 100_000,
        b'{"client_id":"a","page_id":"b","sent_wall":1,"events":[' + b"[" * 50_000 + b"]" * 50_000 + b"]}",
        b'{"client_id":"a\\n","page_id":"b","sent_wall":1,"events":[]}',
        b'{"client_id":"a\\u0000","page_id":"b","sent_wall":1,"events":[]}',
        b'{"client_id":"a","page_id":"b","sent_wall":1e999,"events":[]}',
        b'{"client_id":"a","page_id":"b","sent_wall":NaN,"events":[]}',
        b'{"client_id":"a","page_id":"b","sent_wall":1,"events":[' + b"{}," * 1000 + b"{}]}",
        b'{"client_id":"\\ud800","page_id":"b","sent_wall":1,"events":[]}',
        b"",
    ],
    ids=["deep", "deep events", "deep event", "newline", "nul", "huge", "nan", "many", "surrogate", "empty"],
)
def test_known_tricks_are_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedBatch):
        take_in(raw, now_us(), key=KEY, shards=4)


def one(**fields: Any) -> dict[str, Any]:
    (event,) = taken(json.dumps(batch(client_event(1, **fields))).encode())
    payload: dict[str, Any] = json.loads(event.payload)
    return payload


def test_control_characters_are_removed_and_long_texts_cut() -> None:
    assert one(kind="socket.closed", detail="a\x00b\x1b[2Jc\x7f\x85\u202e" + "x" * 999)["detail"] == (
        "ab[2Jc" + "x" * (TEXT_LENGTH - 11)
    )


def test_a_word_outside_its_list_becomes_other() -> None:
    assert one(kind="socket.closed", cause="because <b>")["cause"] == "other"
    assert one(kind="socket.closed", cause="peer_reset")["cause"] == "peer_reset"


def test_unknown_fields_are_dropped() -> None:
    assert "password" not in one(kind="page.hidden", password="hunter2")


class TestTime:
    received = 1_800_000_000_000_000

    def occurred(self, *, wall_ms: float, **fields: Any) -> int:
        raw = json.dumps(batch({"seq": 1, "type": "page.hidden", "wall": wall_ms, "mono": 1}, **fields)).encode()
        (event,) = take_in(raw, self.received, key=KEY, shards=4).events
        return event.occurred_at

    def test_the_clients_offset_which_is_server_minus_client_is_added(self) -> None:
        wall_ms = self.received / 1000 - 90_000  # its clock is 60 s behind, and it happened 30 s ago
        clock = {"offset_ms": 60_000, "error_ms": 5, "samples": 8}
        assert self.occurred(wall_ms=wall_ms, clock=clock) == self.received - 30_000_000

    def test_without_an_estimate_the_age_at_the_sending_counts(self) -> None:
        sent = 1_500_000_000_000.0  # years off
        clock = {"offset_ms": 0, "error_ms": 0, "samples": 0}
        assert self.occurred(wall_ms=sent - 10_000, sent_wall=sent, clock=clock) == self.received - 10_000_000

    def test_an_estimate_with_too_large_an_error_is_no_estimate(self) -> None:
        sent = self.received / 1000
        clock = {"offset_ms": -86_400_000, "error_ms": 60_000, "samples": 1}
        assert self.occurred(wall_ms=sent - 5_000, sent_wall=sent, clock=clock) == self.received - 5_000_000

    @pytest.mark.parametrize("wall_ms", [0, 8.64e15, received / 1000 + 3_600_000])
    def test_a_time_that_cannot_be_is_the_time_of_receipt(self, wall_ms: float) -> None:
        assert self.occurred(wall_ms=wall_ms, sent_wall=self.received / 1000) == self.received


def test_the_drops_that_a_client_reports_are_kept_by_class() -> None:
    raw = json.dumps(batch(client_event(), dropped={"detail": 3, "made up": 4, "too": 5})).encode()
    (event,) = taken(raw)
    assert json.loads(event.payload)["dropped"] == {"detail": 3, "other": 9}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.just("network-error") | ANY_JSON},
            optional={
                "age": st.floats(0, 1e9) | ANY_JSON,
                "url": st.text(max_size=80).map(lambda text: "https://" + text) | ANY_JSON,
                "user_agent": ANY_JSON,
                "body": st.fixed_dictionaries(
                    {"type": st.sampled_from(sorted(TYPES)) | st.text(max_size=20)},
                    optional={"elapsed_time": ANY_JSON, "status_code": ANY_JSON, "protocol": ANY_JSON},
                )
                | ANY_JSON,
            },
        )
        | ANY_JSON,
        max_size=4,
    )
)
def test_what_is_taken_from_hostile_reports_is_sound(reports: list[Any]) -> None:
    events, others = take_in_reports(json.dumps(reports).encode(), now_us(), prefix="192.0.2.0/24", shard=1)
    assert len(events) + others == len(reports)
    for event in events:
        assert decode_event(encode_event(event)) == event
        payload = json.loads(event.payload)
        assert payload["type"] in TYPES | {"other"}
        assert all(text.isprintable() for text in texts(payload))


def test_every_type_of_the_catalogue_that_browsers_send_has_a_schema() -> None:
    sent = {name for name, row in CATALOGUE.items() if row.sources & {Source.CLIENT, Source.CHAOS}}
    assert {tag_of(event_type) for event_type in ALL_TYPES} == sent


def test_two_hundred_events_are_taken_in_within_a_few_milliseconds() -> None:
    raw = json.dumps(batch(*(client_event(n, "socket.closed", detail="x" * 20) for n in range(200)))).encode()
    best = float("inf")
    for _ in range(10):
        started = time.process_time()
        assert len(taken(raw)) == 200
        best = min(best, time.process_time() - started)
    assert best < 0.01
