"""From a batch's bytes to events of the log. Pure: no I/O, no clock."""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from pulsetrail.events import CATALOGUE, Event, EventClass, Source, encode_payload
from pulsetrail.identity import ClientIdentity, client_ref, new_id, shard_of
from pulsetrail_collector.schemas import (
    ALL_TYPES,
    OTHER,
    Batch,
    ChaosApplied,
    ChaosLifted,
    Context,
    SocketClosed,
    clean,
    clean_text,
    decode_batch,
    decode_client_event,
    tag_of,
)

CHAOS_SDK: Final = "chaos"
"""What the chaos proxy calls itself; its batches hold faults, and nobody else's do."""
MAX_CLOCK_ERROR_MS: Final = 10_000.0
MAX_AGE_US: Final = 48 * 3600 * 1_000_000
"""Browsers keep unsent telemetry for 24 hours; with a clock that is off, twice that is still believed."""
MAX_AHEAD_US: Final = 2_000_000
REASON_LENGTH: Final = 200


class MalformedBatch(Exception):
    """The batch is not one; ``detail`` names the first fault and its path."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Rejected(msgspec.Struct, frozen=True):
    """An event that was not taken: its place in the batch, and why."""

    index: int
    reason: str


class Intake(NamedTuple):
    """What became of a batch."""

    events: list[Event]
    rejected: list[Rejected]
    identity: ClientIdentity | None


def fault_of(error: Exception) -> str:
    """A decoder's complaint as the sender gets it: printable, bounded, with the path where there is one."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return clean_text(str(error), REASON_LENGTH)


DECODE_FAULTS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises on hostile bytes."""


def correction_us(batch: Batch, received_at: int) -> int:
    """What has to be added to this client's wall clock.

    Its own estimate if it has one; otherwise what makes the sending and the receiving the same moment, which is wrong
    by the time on the way.
    """
    clock = batch.clock
    if clock.samples > 0 and clock.error_ms <= MAX_CLOCK_ERROR_MS:
        return round(clock.offset_ms * 1000)
    return received_at - round(batch.sent_wall * 1000)


def occurred_at(wall_ms: float, correction: int, received_at: int) -> int:
    """The moment of an event by the server's clock; the time of receipt when the claim is not plausible."""
    moment = round(wall_ms * 1000) + correction
    if received_at - MAX_AGE_US <= moment <= received_at:
        return moment
    return received_at


def context_of(batch: Batch) -> bytes:
    """The batch's part of every payload, as the inside of a JSON object; it is encoded once."""
    clean(batch)
    clean(batch.ctx)
    context: dict[str, Any] = {
        "offset_ms": batch.clock.offset_ms if batch.clock.samples else None,
        "error_ms": batch.clock.error_ms if batch.clock.samples else None,
        "app": batch.app,
        "release": batch.release,
        "sdk": batch.sdk,
        "session_id": batch.session_id,
        "batch_id": batch.batch_id,
        "ctx": batch.ctx if batch.ctx != Context() else None,
        "dropped": _dropped(batch.dropped) or None,
    }
    return encode_payload({key: value for key, value in context.items() if value is not None})[1:-1]


_CLASSES: Final = frozenset(map(str, EventClass))


def _dropped(claimed: dict[str, int]) -> dict[str, int]:
    dropped: dict[str, int] = {}
    for name, count in claimed.items():
        known = name if name in _CLASSES else OTHER
        dropped[known] = dropped.get(known, 0) + count
    return dropped


class _Kind(NamedTuple):
    """What is needed of a type for each event, looked up once."""

    name: str
    version: int
    opening: int
    """Bytes of ``{"type":"...",`` that the envelope makes redundant."""
    chaos: bool


_KINDS: Final = {
    event_type: _Kind(
        tag_of(event_type),
        CATALOGUE[tag_of(event_type)].version,
        len('{"type":"",') + len(tag_of(event_type)),
        issubclass(event_type, ChaosApplied | ChaosLifted),
    )
    for event_type in ALL_TYPES
}


def take_in(raw: bytes, received_at: int, *, key: bytes, shards: int, from_page: bool = False) -> Intake:
    """Decode, check and convert a batch.

    ``received_at`` is in microseconds; ``key`` makes the pseudonym; ``shards`` is the log's number of shards;
    ``from_page`` says that a browser sent it on behalf of a page, which runs no chaos proxy.

    Raises:
        MalformedBatch: the batch as a whole cannot be read.
    """
    try:
        batch = decode_batch(raw)
    except DECODE_FAULTS as error:
        raise MalformedBatch(fault_of(error)) from None
    if not batch.events:
        return Intake([], [], None)
    context = context_of(batch)
    ending = b"," + context + b"}" if context else b"}"
    from_chaos = batch.sdk is not None and batch.sdk.partition("/")[0] == CHAOS_SDK
    reference = client_ref(key, batch.client_id)
    shard = shard_of(reference, shards)
    source = str(Source.CHAOS if from_chaos else Source.CLIENT)
    correction = correction_us(batch, received_at)
    events: list[Event] = []
    rejected: list[Rejected] = []
    for index, raw_event in enumerate(batch.events):
        try:
            event = decode_client_event(raw_event)
        except DECODE_FAULTS as error:
            rejected.append(Rejected(index, fault_of(error)))
            continue
        kind = _KINDS[type(event)]
        if kind.chaos is not from_chaos or (kind.chaos and from_page):
            rejected.append(Rejected(index, f"{kind.name} is not for this sender - at `$.type`"))
            continue
        clean(event)
        connection_id: UUID | None = event.connection_id
        event.connection_id = None  # it is in the envelope
        events.append(
            Event(
                event_id=new_id(),
                event_type=kind.name,
                schema_version=kind.version,
                source=source,
                occurred_at=occurred_at(event.wall, correction, received_at),
                received_at=received_at,
                shard=shard,
                connection_id=connection_id,
                client_ref=reference,
                page_id=batch.page_id,
                close_code=event.code if type(event) is SocketClosed else None,
                payload=b"{" + encode_payload(event)[kind.opening : -1] + ending,
            )
        )
    return Intake(events, rejected, ClientIdentity(reference, batch.client_id))
