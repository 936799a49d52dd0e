"""The event catalogue: frozen events, their types, versions and payloads.

An event is one envelope, the same for all, around a payload, one struct a type. The list of types is closed: a new one
is a code change with a test. Readers upcast old versions and keep unknown types as ``Unknown`` without failing.

Times are integers in microseconds since 1970-01-01 UTC; durations say their unit in their name.
"""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from pulsetrail.close_codes import Initiator, Phase


class Source(StrEnum):
    """Who says it."""

    GATEWAY = "gateway"
    COLLECTOR = "collector"
    REAPER = "reaper"
    CLIENT = "client"
    BROWSER = "browser"
    CHAOS = "chaos"


CHAOS_CLIENT: Final = "chaos"
"""Who all chaos proxies are in the log, so that their events are found in one place; ``page_id`` tells them apart."""


class EventClass(StrEnum):
    """How dear an event is when a journal runs full; the first is shed first, the last never."""

    DETAIL = "detail"
    ACCOUNT = "account"
    LIFECYCLE = "lifecycle"


class Payload(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the payloads; fields at their default are not written."""


# --- what the gateway saw -----------------------------------------------------------------------------------------


class TcpInfo(Payload, frozen=True, kw_only=True):
    """The kernel's view of the path to the peer (Linux ``TCP_INFO``, tcp(7)); behind a proxy, to the proxy."""

    state: int
    rtt_us: int
    rttvar_us: int
    retransmits: int
    """Timeouts in a row without an acknowledgement."""
    backoff: int
    unacked: int
    """Segments sent and not acknowledged."""
    lost: int
    total_retrans: int
    last_data_sent_ms: int
    last_data_recv_ms: int
    last_ack_recv_ms: int


class Layers(Payload, frozen=True, kw_only=True):
    """Which of the three layers still answer for a client; ``None`` where the platform or the moment cannot tell."""

    kernel: bool | None = None
    """The peer's kernel (or a proxy's) acknowledges what was sent."""
    ping: bool | None = None
    """The browser answers the WebSocket ping."""
    page: bool = False
    """The page answers the heartbeat."""


class Evidence(Payload, frozen=True, kw_only=True):
    """What the gateway knows about an end, raw; the classifier reads it, nothing changes it."""

    close_received: int | None = None
    """Code of the peer's close frame; 1005 when the frame had none; ``None`` when there was no frame."""
    close_sent: int | None = None
    """Code of the close frame that the server sent."""
    first_actor: str = "nobody"
    """Who acted first: ``peer``, ``server`` or ``nobody`` (the path broke)."""
    eof: bool = False
    """The peer sent FIN."""
    error: str | None = None
    """Name of the socket's errno, such as ``ECONNRESET``."""
    frame_error: str | None = None
    """What was wrong with a frame, when the server gave up for that."""
    tcp: TcpInfo | None = None
    layers: Layers | None = None
    behind_proxy: bool = False
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    bytes_unsent: int = 0
    last_frame_age_ms: int = 0
    misses: int = 0
    rtt_us: list[int] = []
    """Round trips of the last heartbeats, newest last."""


class Previous(Payload, frozen=True, kw_only=True):
    """What the client says of its previous connection; the way a backoff reaches the log when telemetry is lost."""

    connection: UUID | None = None
    code: int | None = None
    clean: bool | None = None
    cause: str | None = None
    attempt: int | None = None
    backoff_ms: int | None = None
    downtime_ms: int | None = None


class HandshakeRejected(Payload, frozen=True, kw_only=True):
    """The event's ``reason`` says why. Above a rate only a sample is recorded, ``count`` refusals an event."""

    initiator: str = Initiator.SERVER
    phase: str = Phase.HANDSHAKE
    status: int
    """101 when the socket was accepted and closed at once, so that a browser could read the code."""
    count: int = 1
    address_prefix: str = "unknown"
    origin: str | None = None
    detail: str | None = None


class ConnectionOpened(Payload, frozen=True, kw_only=True):
    address_prefix: str = "unknown"
    behind_proxy: bool = False
    tls: bool = False
    origin: str | None = None
    app: str | None = None
    release: str | None = None
    browser: str = "other"
    """Browser family, from a closed list."""
    os: str = "other"
    device: str = "other"
    auth: str = "none"
    resumed: bool = False
    """The client asked for the updates since its position, and got them all."""
    previous: Previous | None = None


class HeartbeatMissed(Payload, frozen=True, kw_only=True):
    heartbeat_seq: int
    misses: int
    """How many in a row, this one included."""
    layers: Layers
    silent_ms: int
    """Time since the last frame of any kind."""
    ping_rtt_us: int | None = None
    tcp: TcpInfo | None = None


class HeartbeatRecovered(Payload, frozen=True, kw_only=True):
    misses: int
    silent_ms: int


class ConnectionStale(Payload, frozen=True, kw_only=True):
    misses: int
    layers: Layers
    silent_ms: int
    dead_path: bool
    """The kernel shows that nothing arrives: the connection is closed. Otherwise it is kept until IDLE_TIMEOUT."""
    tcp: TcpInfo | None = None


LATENCY_BOUNDS_US: Final = (
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
)
"""Upper bounds of the round-trip buckets, from a data centre to a page that was busy for a heartbeat."""


class LatencySampled(Payload, frozen=True, kw_only=True):
    """Round trips of the heartbeats of up to five minutes of one connection."""

    window_ms: int
    count: int
    min_us: int
    max_us: int
    sum_us: int
    buckets: list[int]
    """Counts for each of ``LATENCY_BOUNDS_US`` (not cumulative) and, last, above them."""
    clock_offset_ms: int | None = None
    """Server minus client, of the sample with the smallest round trip."""


class ConnectionClosed(Payload, frozen=True, kw_only=True):
    """The terminal event. ``reason`` and ``close_code`` (what was on the wire) are in the envelope."""

    initiator: str
    phase: str
    was_clean: bool
    """Both close frames were exchanged."""
    duration_ms: int
    classifier_version: int
    client_code: int | None = None
    """The code that the client sent, whatever the server made of it."""
    detail: str | None = None
    evidence: Evidence


class ConnectionLost(Payload, frozen=True, kw_only=True):
    """The terminal event that the gateway could not write: ``server_crashed`` or ``server_lost``."""

    initiator: str = Initiator.SERVER
    phase: str = Phase.OPEN
    opened_at: int | None = None
    detail: str | None = None


class EndReportedLate(Payload, frozen=True, kw_only=True):
    """A terminal event of a fenced epoch. The log makes it from the original, whose payload it keeps beside this."""

    reported_as: str = "connection.closed"


class BroadcastSuspended(Payload, frozen=True, kw_only=True):
    cause: str
    failures: int


class BroadcastResumed(Payload, frozen=True, kw_only=True):
    suspended_ms: int


class NodeStarted(Payload, frozen=True, kw_only=True):
    version: str
    pid: int
    worker: int = 0
    heartbeat_ms: int = 30_000
    previous_epoch: int | None = None


class NodeStopped(Payload, frozen=True, kw_only=True):
    drained: int
    """Connections that were closed in order."""
    uptime_ms: int


class EventsDropped(Payload, frozen=True, kw_only=True):
    """``count`` events of a class were given up; the log's way of saying what it does not hold."""

    event_class: str
    cause: str
    count: int


# --- envelope -----------------------------------------------------------------------------------------------------


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One event as its producer made it; this form is in the journal. ``payload`` is a JSON object in UTF-8."""

    event_id: UUID
    event_type: str
    schema_version: int
    source: str
    occurred_at: int
    received_at: int
    shard: int
    connection_id: UUID | None = None
    connection_seq: int | None = None
    """The gateway's numbering of its own events of a connection, from 1 without holes; of nothing else."""
    node_id: str | None = None
    node_epoch: int | None = None
    client_ref: UUID | None = None
    page_id: str | None = None
    reason: str | None = None
    close_code: int | None = None
    payload: bytes = b"{}"


class RecordedEvent(NamedTuple):
    """An event in the log: what its producer made, and the place and time the log gave it."""

    position: int
    recorded_at: int
    event: Event


class EventType(NamedTuple):
    """One row of the catalogue."""

    name: str
    version: int
    event_class: EventClass
    sources: frozenset[Source]
    payload: type[Payload] | None
    """``None`` for the browsers' events: the collector validates those against its own schemas."""


def _of(
    name: str, event_class: EventClass, payload: type[Payload] | None, *sources: Source, version: int = 1
) -> EventType:
    return EventType(name, version, event_class, frozenset(sources), payload)


_LIFECYCLE, _ACCOUNT, _DETAIL = EventClass.LIFECYCLE, EventClass.ACCOUNT, EventClass.DETAIL
_GATEWAY = Source.GATEWAY

CATALOGUE: Final[dict[str, EventType]] = {
    row.name: row
    for row in (
        _of("handshake.rejected", _ACCOUNT, HandshakeRejected, _GATEWAY),
        _of("connection.opened", _LIFECYCLE, ConnectionOpened, _GATEWAY),
        _of("heartbeat.missed", _LIFECYCLE, HeartbeatMissed, _GATEWAY),
        _of("heartbeat.recovered", _LIFECYCLE, HeartbeatRecovered, _GATEWAY),
        _of("connection.stale", _LIFECYCLE, ConnectionStale, _GATEWAY),
        _of("latency.sampled", _DETAIL, LatencySampled, _GATEWAY),
        _of("connection.closed", _LIFECYCLE, ConnectionClosed, _GATEWAY),
        _of("connection.lost", _LIFECYCLE, ConnectionLost, _GATEWAY, Source.REAPER),
        _of("connection.end_reported_late", _LIFECYCLE, EndReportedLate, _GATEWAY),
        _of("broadcast.suspended", _LIFECYCLE, BroadcastSuspended, _GATEWAY),
        _of("broadcast.resumed", _LIFECYCLE, BroadcastResumed, _GATEWAY),
        _of("node.started", _LIFECYCLE, NodeStarted, _GATEWAY),
        _of("node.stopped", _LIFECYCLE, NodeStopped, _GATEWAY),
        _of("events.dropped", _LIFECYCLE, EventsDropped, _GATEWAY, Source.COLLECTOR),
        *(
            _of(name, _ACCOUNT, None, Source.CLIENT)
            for name in (
                "attempt.started",
                "attempt.failed",
                "socket.opened",
                "socket.closed",
                "backoff.scheduled",
                "retries.exhausted",
                "heartbeat.overdue",
                "probe.answered",
                "probe.failed",
                "telemetry.dropped",
            )
        ),
        *(
            _of(name, _DETAIL, None, Source.CLIENT)
            for name in (
                "heartbeat.summarised",
                "page.hidden",
                "page.visible",
                "page.frozen",
                "page.resumed",
                "network.changed",
                "clock.jumped",
                "banner.shown",
                "banner.hidden",
                "polling.started",
                "polling.stopped",
            )
        ),
        _of("network.reported", _ACCOUNT, None, Source.BROWSER),
        _of("chaos.applied", _ACCOUNT, None, Source.CHAOS),
        _of("chaos.lifted", _ACCOUNT, None, Source.CHAOS),
    )
}
"""Every event type there is."""

TERMINAL: Final = frozenset({"connection.closed", "connection.lost"})
"""The types that end a connection; each connection gets exactly one."""


class Unknown(Payload, frozen=True, kw_only=True):
    """The payload of a type or version that this code does not know; ``fields`` is what was there."""

    fields: dict[str, Any]


def now_us() -> int:
    """The wall clock in microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


encode_payload = msgspec.json.Encoder().encode
_event_encoder = msgspec.msgpack.Encoder(uuid_format="bytes")
_event_decoder = msgspec.msgpack.Decoder(Event)
encode_event = _event_encoder.encode
"""An event as bytes, the form of the journal's rows."""
decode_event = _event_decoder.decode
"""The inverse of ``encode_event``; raises ``msgspec.DecodeError`` on damage."""

_payload_decoders: Final = {
    row.name: msgspec.json.Decoder(row.payload) for row in CATALOGUE.values() if row.payload is not None
}


def decode_payload(event: Event) -> Payload:
    """The payload as its struct; ``Unknown`` for a type, a version or a shape that this code does not know.

    There is one version of each type so far; the upcast from version n to n + 1 has its place here.
    """
    row = CATALOGUE.get(event.event_type)
    if row is not None and row.payload is not None and event.schema_version == row.version:
        try:
            return _payload_decoders[row.name].decode(event.payload)
        except msgspec.DecodeError:
            pass
    try:
        fields = msgspec.json.decode(event.payload)
    except msgspec.DecodeError:
        fields = None
    return Unknown(fields=fields if isinstance(fields, dict) else {"raw": event.payload.decode(errors="replace")})
