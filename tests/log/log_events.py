"""Events and batches for the tests of the log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pulsetrail.events import Event, encode_payload, now_us
from pulsetrail.identity import client_ref, new_id
from pulsetrail.log import Batch, Cursor, Log

REF = client_ref(bytes(32), "a client")
NODE, EPOCH = "quiet-otter-0", 1_700_000_000_000_000


def an_event(event_type: str = "heartbeat.missed", *, payload: Any = None, shard: int = 0, **fields: Any) -> Event:
    """A gateway's event of some connection."""
    at = now_us()
    return Event(
        **{
            "event_id": new_id(),
            "event_type": event_type,
            "schema_version": 1,
            "source": "gateway",
            "occurred_at": at,
            "received_at": at,
            "shard": shard,
            "client_ref": REF,
            "payload": payload if isinstance(payload, bytes) else encode_payload(payload or {}),
            **fields,
        }
    )


def of_node(event_type: str, connection: UUID, **fields: Any) -> Event:
    """An event of a connection that the tests' node serves."""
    return an_event(event_type, **{"connection_id": connection, "node_id": NODE, "node_epoch": EPOCH, **fields})


def telemetry(page: str, seq: Any, **fields: Any) -> Event:
    """A browser's event."""
    return an_event("socket.opened", **{"source": "client", "page_id": page, "payload": {"seq": seq}, **fields})


def a_batch(producer: UUID, first_seq: int, events: Sequence[Event], **fields: Any) -> Batch:
    return Batch(
        **{
            "shard": 0,
            "producer_id": producer,
            "first_seq": first_seq,
            "events": events,
            "steady_now_us": now_us(),
            **fields,
        }
    )


async def everything(log: Log, shard: int = 0) -> list[Event]:
    """All events of a shard."""
    return [recorded.event for recorded in await log.read_after(shard, Cursor(), 100_000)]
