"""What a journal gives up when it runs full, and how it says so. Pure: no clock, no file.

===========  ======================================================================================
fill from    what happens
===========  ======================================================================================
0.5          rows that are already in the log are deleted before their 15 minutes
0.7          events of class ``detail`` are shed
0.8          events of class ``account`` too; the collector refuses telemetry
0.9          new handshakes are refused: the rest is kept for the ends of the open ones
0.95         commits fail with ``JournalFull``; ends wait in memory and are tried again. What is left is for a
             restart, which has to write the ends of all that was open
===========  ======================================================================================
"""

from __future__ import annotations

from typing import Final

from pulsetrail.events import CATALOGUE, Event, EventClass, EventsDropped, Source, encode_payload, now_us
from pulsetrail.identity import new_id

PURGE_EARLY: Final = 0.5
SHED_DETAIL: Final = 0.7
SHED_ACCOUNT: Final = 0.8
REFUSE_HANDSHAKES: Final = 0.9
FULL: Final = 0.95

REPORT_SECONDS: Final = 1.0
"""At most one ``events.dropped`` per class and cause in this time."""

_DROPPED_TYPE: Final = "events.dropped"


def class_of(event: Event) -> EventClass:
    """How dear an event is; a type that the catalogue does not know is an account."""
    row = CATALOGUE.get(event.event_type)
    return EventClass.ACCOUNT if row is None else row.event_class


def shed_at(fill: float) -> frozenset[EventClass]:
    """The classes that are shed at a fill level; never ``lifecycle``."""
    if fill >= SHED_ACCOUNT:
        return frozenset({EventClass.DETAIL, EventClass.ACCOUNT})
    if fill >= SHED_DETAIL:
        return frozenset({EventClass.DETAIL})
    return frozenset()


def dropped_event(event_class: str, cause: str, count: int, *, shard: int, sample: Event | None = None) -> Event:
    """The event that stands for ``count`` lost ones.

    It names the same node as ``sample``, one of the lost; who speaks is the gateway or, for what browsers sent, the
    collector.
    """
    now = now_us()
    from_browser = sample is not None and sample.source in (Source.CLIENT, Source.BROWSER, Source.COLLECTOR)
    return Event(
        event_id=new_id(),
        event_type=_DROPPED_TYPE,
        schema_version=CATALOGUE[_DROPPED_TYPE].version,
        source=Source.COLLECTOR if from_browser else Source.GATEWAY,
        occurred_at=now,
        received_at=now,
        shard=shard,
        node_id=sample.node_id if sample else None,
        node_epoch=sample.node_epoch if sample else None,
        reason=cause,
        payload=encode_payload(EventsDropped(event_class=event_class, cause=cause, count=count)),
    )


class DropTally:
    """Counts what was dropped until it is due to be told."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, Event]] = {}
        self._told: dict[tuple[str, str], float] = {}

    def add(self, event: Event, cause: str) -> None:
        """Count one dropped event."""
        key = (class_of(event), cause)
        count, sample = self._counts.get(key, (0, event))
        self._counts[key] = (count + 1, sample)

    @property
    def pending(self) -> bool:
        """Whether something was counted and not told."""
        return bool(self._counts)

    def due(self, now: float) -> list[Event]:
        """The events to write at monotonic second ``now``, one per class and cause; their counts start again."""
        events = []
        for key, (count, sample) in list(self._counts.items()):
            if now - self._told.get(key, -REPORT_SECONDS) >= REPORT_SECONDS:
                self._told[key] = now
                del self._counts[key]
                event_class, cause = key
                events.append(dropped_event(event_class, cause, count, shard=sample.shard, sample=sample))
        return events
