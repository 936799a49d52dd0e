"""Events for the tests of the journal, and a look at what a journal holds."""

from __future__ import annotations

from uuid import UUID

from pulsetrail.events import CATALOGUE, ConnectionLost, Event, decode_payload, encode_payload, now_us
from pulsetrail.identity import new_id
from pulsetrail.journal import Journal

SHARDS = 4


def make_event(
    event_type: str = "connection.opened",
    *,
    shard: int = 0,
    connection: UUID | None = None,
    connection_seq: int | None = None,
    source: str | None = None,
    page_seq: int | None = None,
    filler: int = 0,
) -> Event:
    """An event as the gateway (or, for a client's, the collector) makes it, ``filler`` bytes larger than need be."""
    row = CATALOGUE[event_type]
    payload = encode_payload({"seq": page_seq or 0, "filler": "x" * filler})
    if event_type == "connection.lost":
        payload = encode_payload(ConnectionLost())
    now = now_us()
    return Event(
        event_id=new_id(),
        event_type=event_type,
        schema_version=row.version,
        source=source or sorted(row.sources)[0],
        occurred_at=now,
        received_at=now,
        shard=shard,
        connection_id=connection,
        connection_seq=connection_seq,
        node_id="quiet-otter-0",
        node_epoch=1_700_000_000_000_000,
        client_ref=connection,
        page_id="page-1",
        payload=payload,
    )


def opened(*, shard: int = 0, filler: int = 0) -> Event:
    """A ``connection.opened`` of a new connection."""
    return make_event(shard=shard, connection=new_id(), connection_seq=1, filler=filler)


def closed(first: Event) -> Event:
    """The end of the connection that ``first`` opened."""
    return make_event(
        "connection.closed", shard=first.shard, connection=first.connection_id, connection_seq=2, source="gateway"
    )


async def take_all(journal: Journal) -> list[Event]:
    """Everything that waits to be shipped, shard by shard and older producers first; marks it as shipped.

    Asserts that no lane has a hole.
    """
    events: list[Event] = []
    for shard in sorted({lane.shard for lane in await journal.lanes()}):
        while (batch := await journal.pending(shard, 1_000)) is not None:
            assert batch.first_seq == batch.after_seq + 1, f"rows are missing before {batch.first_seq}"
            events.extend(batch.events)
            last_seq = batch.first_seq + len(batch.events) - 1
            await journal.mark_shipped(shard, batch.producer_id, last_seq)
    return events


def dropped_counts(events: list[Event]) -> dict[tuple[str, str], int]:
    """What the ``events.dropped`` among ``events`` add up to, by class and cause."""
    counts: dict[tuple[str, str], int] = {}
    for event in events:
        if event.event_type == "events.dropped":
            payload = decode_payload(event)
            key = (payload.event_class, payload.cause)  # type: ignore[attr-defined]  # EventsDropped has both
            counts[key] = counts.get(key, 0) + payload.count  # type: ignore[attr-defined]  # and this
    return counts
