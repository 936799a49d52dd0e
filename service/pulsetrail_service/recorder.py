"""From drafts to events: the gateway's envelope, its journal and its log lines."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from pulsetrail import __version__
from pulsetrail.close_codes import Reason
from pulsetrail.events import (
    CATALOGUE,
    Event,
    HandshakeRejected,
    NodeStarted,
    NodeStopped,
    Payload,
    Source,
    encode_payload,
    now_us,
)
from pulsetrail.identity import ClientIdentity, new_id, shard_of
from pulsetrail.journal import Journal
from pulsetrail.lifecycle import Draft
from pulsetrail.logs import log_event

if TYPE_CHECKING:
    from pulsetrail_service.connections import Connection


class Recorder:
    """Puts the gateway's events into its journal; knows which node this is and in which epoch."""

    def __init__(self, journal: Journal, *, node_id: str, shards: int, wall: Callable[[], int] = now_us) -> None:
        self.journal = journal
        self.node_id = node_id
        self.shards = shards
        self.wall = wall
        self.epoch = wall()
        self._node_shard = shard_of(node_id, shards)

    def new_epoch(self) -> int:
        """Begin another incarnation of this node; returns the one before."""
        before = self.epoch
        self.epoch = max(self.wall(), before + 1)
        return before

    # --- connections ---

    def of_connection(self, connection: Connection, draft: Draft, identity: ClientIdentity | None = None) -> None:
        """Record one event of a connection."""
        event = Event(
            event_id=new_id(),
            event_type=draft.event_type,
            schema_version=CATALOGUE[draft.event_type].version,
            source=Source.GATEWAY,
            occurred_at=draft.at,
            received_at=self.wall(),
            shard=connection.shard,
            connection_id=connection.connection_id,
            connection_seq=connection.next_seq() if draft.numbered else None,
            node_id=self.node_id,
            node_epoch=connection.node_epoch,
            client_ref=connection.client_ref,
            page_id=connection.page_id,
            reason=draft.reason,
            close_code=draft.close_code,
            payload=encode_payload(draft.payload),
        )
        self.journal.record(event, identity)
        log_event(event)

    # --- the node ---

    def of_node(self, event_type: str, payload: Payload, reason: Reason | None = None) -> None:
        """Record one event of the node itself."""
        self._record(event_type, payload, self._node_shard, reason)

    def node_started(self, worker: int, heartbeat_seconds: float, previous_epoch: int | None) -> None:
        """This incarnation begins."""
        started = NodeStarted(
            version=__version__,
            pid=os.getpid(),
            worker=worker,
            heartbeat_ms=int(heartbeat_seconds * 1000),
            previous_epoch=previous_epoch,
        )
        self.of_node("node.started", started)

    def node_stopped(self, drained: int) -> None:
        """This incarnation ends in order, with ``drained`` connections closed by it."""
        self.of_node("node.stopped", NodeStopped(drained=drained, uptime_ms=(self.wall() - self.epoch) // 1000))

    def handshake_rejected(
        self, payload: HandshakeRejected, reason: Reason, client_ref: UUID | None, close_code: int | None
    ) -> None:
        """A handshake was refused; without a client it goes to the shard of its address prefix."""
        subject = client_ref if client_ref is not None else payload.address_prefix
        shard = shard_of(subject, self.shards)
        self._record("handshake.rejected", payload, shard, reason, client_ref, close_code)

    def _record(
        self,
        event_type: str,
        payload: Payload,
        shard: int,
        reason: Reason | None,
        client_ref: UUID | None = None,
        close_code: int | None = None,
    ) -> None:
        at = self.wall()
        event = Event(
            event_id=new_id(),
            event_type=event_type,
            schema_version=CATALOGUE[event_type].version,
            source=Source.GATEWAY,
            occurred_at=at,
            received_at=at,
            shard=shard,
            node_id=self.node_id,
            node_epoch=self.epoch,
            client_ref=client_ref,
            reason=reason,
            close_code=close_code,
            payload=encode_payload(payload),
        )
        self.journal.record(event)
        log_event(event)
