"""What the log can hold, and what becomes of an event that it cannot.

Postgres refuses what JSON and Unicode allow: the character NUL, lone surrogates, numbers and nestings beyond its limit.
One such event in a batch would come back for ever and block its lane. So a batch that is refused for its data is looked
at event by event: what can be repaired is repaired (a character becomes U+FFFD, a time is brought into range); of the
rest the original goes to ``dead_letter``, and its place in the lane is taken by the same event without its payload, if
it is a lifecycle event, or else by an ``events.dropped`` that counts it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final

import msgspec

from pulsetrail.events import CATALOGUE, Event, EventClass, EventsDropped, encode_payload

LATEST_US: Final = (1 << 53) - 1
"""In the year 2255. Postgres multiplies intervals in doubles, which are whole up to here; later times, and those before
1970, are some client's nonsense."""

_CLIENT: Final = "client"
_MAX_PAGE_SEQ: Final = 1 << 53
_UNHOLDABLE: Final = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT: Final = "\ufffd"


class _Sequenced(msgspec.Struct):
    seq: int | None = None


_decode_sequenced: Final = msgspec.json.Decoder(_Sequenced).decode


def page_seqs(events: Sequence[Event]) -> list[int | None] | None:
    """For each event the ``seq`` that with its page is its identity, if a browser gave one; ``None`` for none at all.

    Only a whole number of JavaScript's safe range counts; anything else is no identity.
    """
    if not any(event.source == _CLIENT for event in events):
        return None
    return [_page_seq(event) if event.source == _CLIENT else None for event in events]


def _page_seq(event: Event) -> int | None:
    if event.page_id is None:
        return None
    try:
        seq = _decode_sequenced(event.payload).seq
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return seq if seq is not None and 0 <= seq < _MAX_PAGE_SEQ else None


def rows(events: Sequence[Event]) -> list[tuple[Any, ...]]:
    """The events as ``append_events`` takes them, in the order of the type ``appended_event``.

    Rows, not an array for each column: asyncpg looks at every element of an array whether it is one itself, and at
    nothing within a row (2.7 µs an event instead of 4.7).
    """
    occurred_at = in_range([event.occurred_at for event in events])
    received_at = in_range([event.received_at for event in events])
    seqs = page_seqs(events) or repeat(None)
    return [
        (
            occurred,
            received,
            event.node_epoch,
            event.event_id,
            event.connection_id,
            event.client_ref,
            event.connection_seq,
            event.close_code,
            event.schema_version,
            event.event_type,
            event.source,
            event.node_id,
            event.page_id,
            event.reason,
            event.payload.decode(),
            seq,
        )
        for event, occurred, received, seq in zip(events, occurred_at, received_at, seqs, strict=False)
    ]


def in_range(times: list[int]) -> list[int]:
    """Times that the log can hold, in µs."""
    if min(times) >= 0 and max(times) <= LATEST_US:
        return times
    return [min(max(value, 0), LATEST_US) for value in times]


def repair(event: Event) -> Event:
    """The event with everything replaced that Postgres cannot hold and that can be replaced; its payload may still be
    no JSON object."""
    return msgspec.structs.replace(
        event,
        event_type=holdable(event.event_type),
        source=holdable(event.source),
        schema_version=event.schema_version if 0 <= event.schema_version < 1 << 15 else 0,
        connection_seq=_whole(event.connection_seq, 31),
        node_epoch=_whole(event.node_epoch, 63),
        close_code=_whole(event.close_code, 31),
        node_id=_optional_text(event.node_id),
        page_id=_optional_text(event.page_id),
        reason=_optional_text(event.reason),
        payload=_payload(event.payload),
    )


def substitute(event: Event) -> Event:
    """What stands in the log for a repaired event whose payload cannot be held."""
    row = CATALOGUE.get(event.event_type)
    event_class = row.event_class if row is not None else EventClass.DETAIL
    if event_class is EventClass.LIFECYCLE:
        return msgspec.structs.replace(event, payload=b'{"unstorable":true}')
    dropped = EventsDropped(event_class=event_class, cause="unstorable", count=1)
    return msgspec.structs.replace(
        event,
        event_type="events.dropped",
        schema_version=CATALOGUE["events.dropped"].version,
        source="collector" if event.source == _CLIENT else event.source,
        connection_id=None,
        connection_seq=None,
        reason=None,
        close_code=None,
        payload=encode_payload(dropped),
    )


def is_json_object(payload: bytes) -> bool:
    """Whether a payload is a JSON object, as near as Python can tell what Postgres will say."""
    try:
        return isinstance(json.loads(payload, parse_constant=_refuse_constant), dict)
    except (ValueError, RecursionError):
        return False


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def holdable(value: str) -> str:
    """The text without the characters that Postgres refuses."""
    return _UNHOLDABLE.sub(_REPLACEMENT, value)


def _optional_text(value: str | None) -> str | None:
    return None if value is None else holdable(value)


def _whole(value: int | None, bits: int) -> int | None:
    return value if value is not None and -(1 << bits) <= value < 1 << bits else None


def _payload(payload: bytes) -> bytes:
    text = payload.decode("utf-8", errors="replace")
    if "\\u" in text:
        try:
            text = json.dumps(_clean(json.loads(text)), ensure_ascii=False)
        except (ValueError, RecursionError):
            return payload
    return holdable(text).encode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return holdable(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {holdable(name): _clean(item) for name, item in value.items()}
    return value
