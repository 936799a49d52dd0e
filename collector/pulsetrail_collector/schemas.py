"""What a browser may say: one struct for the batch, one for each type of event.

Two kinds of fault are told apart. A value of the wrong type or out of its range is the sender's bug: the event is
rejected and the reply says where. A text that is too long, holds control characters or is not in its closed list is a
newer client or a hostile one: it is cut, cleaned or replaced with ``other``, and the event is kept.

Durations are milliseconds, as browsers count them.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args
from uuid import UUID

import msgspec
from msgspec import Meta, Raw, Struct

from pulsetrail.close_codes import CLIENT_CAUSES

OTHER: Final = "other"
TEXT_LENGTH: Final = 256
"""Characters kept of a free text."""
MAX_EVENTS: Final = 1000

Word = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,63}(?!\n)$")]
"""An identifier; the handshake takes the same, and two spellings must not become one client.

The look-ahead is there because ``$`` also matches before a newline at the end.
"""
Seq = Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]
"""JavaScript's safe integers."""
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Code = Annotated[int, Meta(ge=0, le=65_535)]
Ms = Annotated[float, Meta(ge=0, le=1e11)]
"""A duration of up to three years."""
SignedMs = Annotated[float, Meta(ge=-1e11, le=1e11)]
WallMs = Annotated[float, Meta(ge=0, le=8.64e15)]
"""``Date.now()``; the largest value is ECMAScript's."""

VOCABULARIES: Final[dict[str, frozenset[str]]] = {
    "cause": CLIENT_CAUSES,
    "phase": frozenset(("dns", "tcp", "tls", "handshake", "auth", "socket", "welcome", "open", "draining")),
    "visibility": frozenset(("visible", "hidden")),
    "network": frozenset(
        ("online", "offline", "wifi", "cellular", "ethernet", "bluetooth", "wimax", "none", "unknown")
    ),
    "effective_type": frozenset(("slow-2g", "2g", "3g", "4g")),
    "event_class": frozenset(("lifecycle", "account", "detail")),
    "fault": frozenset(
        (
            "refuse",
            "reset",
            "fin",
            "blackhole",
            "latency",
            "bandwidth",
            "drop-heartbeats",
            "http",
            "flap",
            "monkey",
        )
    ),
    "direction": frozenset(("up", "down", "both")),
}
"""The closed lists, by the field's name; whatever else is offered becomes ``other``."""


class Clock(Struct, frozen=True):
    """The client's estimate of ``server - client``."""

    offset_ms: SignedMs = 0.0
    error_ms: Ms = 0.0
    samples: Count = 0


class Context(Struct, omit_defaults=True):
    """The page's situation when the batch was sent."""

    visibility: str | None = None
    network: str | None = None
    effective_type: str | None = None


class Batch(Struct):
    """A telemetry batch; the events stay undecoded, so that one bad event does not lose the others."""

    client_id: Word
    page_id: Word
    sent_wall: WallMs
    events: Annotated[list[Raw], Meta(max_length=MAX_EVENTS)]
    schema: Annotated[int, Meta(ge=1, le=1)] = 1
    batch_id: Word | None = None
    batch_seq: Seq | None = None
    session_id: Word | None = None
    sdk: str | None = None
    app: str | None = None
    release: str | None = None
    sent_mono: Ms | None = None
    clock: Clock = Clock()
    ctx: Context = msgspec.field(default_factory=Context)
    dropped: dict[str, Count] = {}


class ClientEvent(Struct, kw_only=True, tag_field="type", omit_defaults=True):
    """What every event has. ``(page_id, seq)`` is its identity; it and the times never change on a retry."""

    seq: Seq
    wall: WallMs
    mono: Ms
    connection_id: UUID | None = None
    attempt: Count | None = None


class AttemptStarted(ClientEvent, tag="attempt.started"):
    previous_connection_id: UUID | None = None


class AttemptFailed(ClientEvent, tag="attempt.failed"):
    phase: str | None = None
    cause: str | None = None
    code: Code | None = None
    elapsed_ms: Ms | None = None


class SocketOpened(ClientEvent, tag="socket.opened"):
    elapsed_ms: Ms | None = None
    downtime_ms: Ms | None = None
    resumed: bool | None = None


class SocketClosed(ClientEvent, tag="socket.closed"):
    code: Code | None = None
    clean: bool | None = None
    cause: str | None = None
    detail: str | None = None
    uptime_ms: Ms | None = None


class BackoffScheduled(ClientEvent, tag="backoff.scheduled"):
    base_ms: Ms | None = None
    jitter_ms: SignedMs | None = None
    delay_ms: Ms | None = None
    hint_ms: Ms | None = None


class RetriesExhausted(ClientEvent, tag="retries.exhausted"):
    cause: str | None = None


class HeartbeatOverdue(ClientEvent, tag="heartbeat.overdue"):
    overdue_ms: Ms | None = None
    timer_late_ms: Ms | None = None
    misses: Count | None = None


class ProbeAnswered(ClientEvent, tag="probe.answered"):
    rtt_ms: Ms | None = None


class ProbeFailed(ClientEvent, tag="probe.failed"):
    waited_ms: Ms | None = None


class HeartbeatSummarised(ClientEvent, tag="heartbeat.summarised"):
    window_ms: Ms | None = None
    count: Count | None = None
    missed: Count | None = None
    min_ms: Ms | None = None
    max_ms: Ms | None = None
    sum_ms: Ms | None = None


class PageHidden(ClientEvent, tag="page.hidden"):
    pass


class PageVisible(ClientEvent, tag="page.visible"):
    away_ms: Ms | None = None


class PageFrozen(ClientEvent, tag="page.frozen"):
    pass


class PageResumed(ClientEvent, tag="page.resumed"):
    away_ms: Ms | None = None


class NetworkChanged(ClientEvent, tag="network.changed"):
    network: str | None = None
    effective_type: str | None = None
    rtt_ms: Ms | None = None


class ClockJumped(ClientEvent, tag="clock.jumped"):
    jump_ms: SignedMs | None = None


class BannerShown(ClientEvent, tag="banner.shown"):
    downtime_ms: Ms | None = None


class BannerHidden(ClientEvent, tag="banner.hidden"):
    shown_ms: Ms | None = None


class PollingStarted(ClientEvent, tag="polling.started"):
    failures: Count | None = None


class PollingStopped(ClientEvent, tag="polling.stopped"):
    polled_ms: Ms | None = None


class TelemetryDropped(ClientEvent, tag="telemetry.dropped"):
    event_class: str | None = None
    count: Count | None = None


class ChaosApplied(ClientEvent, tag="chaos.applied"):
    fault: str
    direction: str | None = None
    target: str | None = None
    for_ms: Ms | None = None
    detail: str | None = None


class ChaosLifted(ClientEvent, tag="chaos.lifted"):
    fault: str
    target: str | None = None


EVENT_TYPES: Final = (
    AttemptStarted
    | AttemptFailed
    | SocketOpened
    | SocketClosed
    | BackoffScheduled
    | RetriesExhausted
    | HeartbeatOverdue
    | ProbeAnswered
    | ProbeFailed
    | HeartbeatSummarised
    | PageHidden
    | PageVisible
    | PageFrozen
    | PageResumed
    | NetworkChanged
    | ClockJumped
    | BannerShown
    | BannerHidden
    | PollingStarted
    | PollingStopped
    | TelemetryDropped
    | ChaosApplied
    | ChaosLifted
)
ALL_TYPES: Final[tuple[type[ClientEvent], ...]] = get_args(EVENT_TYPES)

decode_batch = msgspec.json.Decoder(Batch).decode
decode_client_event = msgspec.json.Decoder(EVENT_TYPES).decode


def tag_of(event_type: type[ClientEvent]) -> str:
    """The name of a type in the catalogue."""
    return str(event_type.__struct_config__.tag)


def clean_text(text: str, length: int = TEXT_LENGTH) -> str:
    """A client's text as it may be stored: without control characters, and short."""
    if len(text) > length:
        text = text[:length]
    return text if text.isprintable() else "".join(char for char in text if char.isprintable())


def _texts_of(struct: type[Struct]) -> tuple[tuple[str, frozenset[str] | None], ...]:
    texts = (info.name for info in msgspec.structs.fields(struct) if info.type in (str, str | None))
    return tuple((name, VOCABULARIES.get(name)) for name in texts)


_WITH_TEXTS: Final[tuple[type[Struct], ...]] = (*ALL_TYPES, Context, Batch)
_TEXTS: Final = {struct: _texts_of(struct) for struct in _WITH_TEXTS}


def clean(struct: Struct) -> None:
    """Clean every text of a decoded event, context or batch in place."""
    for name, vocabulary in _TEXTS[type(struct)]:
        value = getattr(struct, name)
        if value is None:
            continue
        if vocabulary is None:
            setattr(struct, name, clean_text(value))
        elif value not in vocabulary:
            setattr(struct, name, OTHER)


def inlined_schema(struct: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of a type without references, as an OpenAPI document can hold it in place."""
    (reference,), components = msgspec.json.schema_components((struct,))
    inlined: dict[str, Any] = _inline(reference, components)
    return inlined


def _inline(node: Any, components: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inline(item, components) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inline(components[node["$ref"].rpartition("/")[2]], components)
    return {key: _inline(value, components) for key, value in node.items()}


def batch_schema() -> dict[str, Any]:
    """The JSON Schema of a batch, with that of each event type in the place of the undecoded events."""
    schema = inlined_schema(Batch)
    schema["properties"]["events"]["items"] = {"oneOf": [inlined_schema(event_type) for event_type in ALL_TYPES]}
    return schema
