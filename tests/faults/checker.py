"""The checker: what the clients know against what is stored. Pure: sets in, findings out.

For handshakes and for telemetry alike ``lost = acknowledged - stored`` and ``phantom = stored - attempted``. Beside it:
nothing stored twice, one opening and one end for each connection, no end for one that its client still has, positions
without holes, and each connection's own events in their order.

The log has to be read *before* the records: what is stored was attempted by then. What was acknowledged a moment ago
may not be stored yet, so whoever judges a service under traffic asks again until nothing is wrong, or for long enough.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from records import (
    Attempted,
    BatchAcknowledged,
    BatchAttempted,
    BatchRefused,
    Ended,
    Entry,
    Refused,
    Upgraded,
    Welcomed,
)

TERMINAL = ("connection.closed", "connection.lost")


class Finding(NamedTuple):
    """One broken promise."""

    kind: str
    """One of ``KINDS``."""
    subject: str
    """Which event of which client, or which place."""
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}: {self.detail}"


KINDS = {
    "lost opening": "a client saw its 101, and there is no connection.opened",
    "lost telemetry": "a client saw its 202, and the event is not in the log",
    "phantom opening": "a connection is in the log that no client attempted",
    "phantom telemetry": "telemetry is in the log that no client sent",
    "doubled opening": "a connection was opened twice",
    "doubled telemetry": "an event of a page is in the log more than once",
    "doubled event": "an event id is in the log more than once",
    "mixed up": "a connection's id is stored for another handshake than the one that was told it",
    "no end": "a connection is over for its client, and has no terminal event",
    "two ends": "a connection has more than one terminal event",
    "no opening": "a connection has events, and no connection.opened",
    "ended while open": "a connection has a terminal event, and its client still has it",
    "hole": "positions of a shard are missing",
    "out of order": "events are in the log in another order than they happened in",
    "no identity": "a client's pseudonym cannot be resolved",
    "gauge": "a metric shows something else than there is",
    "log verify": "the product's own check found something",
    "projection": "a rebuilt projection differs from the live one",
    "dropped": "the log says that it gave events up",
}
"""Every kind of finding, and what it means."""


# --- what the clients know --------------------------------------------------------------------------------------------


class Handshake(NamedTuple):
    """The identity of an attempt to connect, known to both sides."""

    client: str
    attempt: int

    def __str__(self) -> str:
        return f"client {self.client}, attempt {self.attempt}"


@dataclass(slots=True)
class Seen:
    """What became of a handshake, by its client."""

    page: str
    upgraded: bool = False
    refused: int | None = None
    connection: str | None = None
    ended: str | None = None

    @property
    def is_promised(self) -> bool:
        """Whether it has to be on record."""
        return self.upgraded and self.refused is None

    @property
    def is_open(self) -> bool:
        """Whether the client has this connection now."""
        return self.is_promised and self.ended is None

    @property
    def is_undecided(self) -> bool:
        """Whether the client is still at it."""
        return not self.upgraded and self.refused is None and self.ended is None


@dataclass(slots=True)
class ClientAccount:
    """All records, put together."""

    handshakes: dict[Handshake, Seen] = field(default_factory=dict)
    attempted: dict[str, set[int]] = field(default_factory=dict)
    """Sequences by page."""
    acknowledged: dict[str, set[int]] = field(default_factory=dict)
    refusals: Counter[int] = field(default_factory=Counter)
    """Handshakes and batches that were refused, by status or close code."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Take over what was recorded."""
        for entry in entries:
            match entry:
                case Attempted(client=client, attempt=attempt, page=page):
                    self.handshakes[Handshake(client, attempt)] = Seen(page)
                case Upgraded(client=client, attempt=attempt):
                    self.handshakes[Handshake(client, attempt)].upgraded = True
                case Welcomed(client=client, attempt=attempt, connection=connection):
                    self.handshakes[Handshake(client, attempt)].connection = connection
                case Refused(client=client, attempt=attempt, code=code):
                    self.handshakes[Handshake(client, attempt)].refused = code
                    self.refusals[code] += 1
                case Ended(client=client, attempt=attempt, how=how):
                    self.handshakes[Handshake(client, attempt)].ended = how
                case BatchAttempted(page=page, first=first, last=last):
                    self.attempted.setdefault(page, set()).update(range(first, last + 1))
                case BatchAcknowledged(page=page, first=first, last=last):
                    self.acknowledged.setdefault(page, set()).update(range(first, last + 1))
                case BatchRefused(status=status):
                    self.refusals[status] += 1

    @property
    def open_connections(self) -> int:
        """How many connections the clients have now."""
        return sum(seen.is_open for seen in self.handshakes.values())


# --- what is stored ---------------------------------------------------------------------------------------------------


class StoredEvent(NamedTuple):
    """A row of the log, as far as it matters here."""

    shard: int
    position: int
    event_type: str
    source: str
    connection: str | None
    connection_seq: int | None
    client: str | None
    """The client's own id, resolved; ``None`` when there is none."""
    page: str | None
    page_seq: int | None
    attempt: int | None
    """Of ``connection.opened``: what the query said."""
    dropped: int
    """Of ``events.dropped``: how many."""


@dataclass(slots=True)
class Life:
    """A connection in the log."""

    handshake: Handshake | None = None
    openings: int = 0
    ends: list[str] = field(default_factory=list)
    last_seq: int = 0
    disorder: str | None = None


@dataclass(slots=True)
class LogAccount:
    """All of the log, put together. Events of a shard have to come in the order of their positions."""

    lives: dict[str, Life] = field(default_factory=dict)
    telemetry: dict[str, Counter[int]] = field(default_factory=dict)
    heads: dict[int, int] = field(default_factory=dict)
    """Last position by shard."""
    holes: list[tuple[int, int, int]] = field(default_factory=list)
    """Shard, first and last missing position."""
    dropped: int = 0
    nameless: set[str] = field(default_factory=set)
    """Connections whose client cannot be resolved."""
    last_of_page: dict[str, int] = field(default_factory=dict)
    unordered_pages: dict[str, str] = field(default_factory=dict)

    def add(self, event: StoredEvent) -> None:
        """Take over one row."""
        expected = self.heads.get(event.shard, 0) + 1
        if event.position > expected:
            self.holes.append((event.shard, expected, event.position - 1))
        self.heads[event.shard] = event.position
        self.dropped += event.dropped
        if event.source in ("client", "chaos"):
            if event.page is not None and event.page_seq is not None:
                self._add_telemetry(event.page, event.page_seq, event.position)
        elif event.connection is not None:
            self._add_to_life(event.connection, event)

    def _add_telemetry(self, page: str, seq: int, position: int) -> None:
        self.telemetry.setdefault(page, Counter())[seq] += 1
        before = self.last_of_page.get(page, -1)
        if seq < before:
            self.unordered_pages.setdefault(page, f"sequence {seq} at position {position} comes after {before}")
        self.last_of_page[page] = max(seq, before)

    def _add_to_life(self, connection: str, event: StoredEvent) -> None:
        life = self.lives.setdefault(connection, Life())
        place = f"{event.event_type} at position {event.position} of shard {event.shard}"
        if event.event_type == "connection.opened":
            life.openings += 1
            if event.client is None:
                self.nameless.add(connection)
            elif event.attempt is not None:
                life.handshake = Handshake(event.client, event.attempt)
        elif not life.openings and event.event_type != "connection.end_reported_late":
            life.disorder = life.disorder or f"{place} comes before its connection.opened"
        if event.event_type in TERMINAL:
            life.ends.append(event.event_type)
        if event.connection_seq is not None:
            if event.connection_seq <= life.last_seq:
                life.disorder = life.disorder or f"{place} has number {event.connection_seq} after {life.last_seq}"
            life.last_seq = max(life.last_seq, event.connection_seq)


# --- the judgement ----------------------------------------------------------------------------------------------------


def judge(clients: ClientAccount, log: LogAccount, *, one_lane: bool = False) -> list[Finding]:
    """Everything that is wrong.

    ``one_lane``: all telemetry went through one process, so that a page's events are in the log in their order too;
    with several only each process's own order is promised.
    """
    findings = [*_of_openings(clients, log), *_of_ends(clients, log), *_of_telemetry(clients, log)]
    findings += [Finding("hole", f"shard {shard}", f"positions {first} to {last}") for shard, first, last in log.holes]
    findings += [
        Finding("out of order", f"connection {connection}", life.disorder)
        for connection, life in log.lives.items()
        if life.disorder is not None and life.openings
    ]
    findings += [Finding("no identity", f"connection {one}", "client_identity has no row") for one in log.nameless]
    if one_lane:
        findings += [Finding("out of order", f"page {page}", detail) for page, detail in log.unordered_pages.items()]
    if log.dropped:
        findings.append(Finding("dropped", "events.dropped", f"{log.dropped} events"))
    return findings


def _of_openings(clients: ClientAccount, log: LogAccount) -> Iterator[Finding]:
    stored = {life.handshake: one for one, life in log.lives.items() if life.openings and life.handshake is not None}
    for handshake, seen in clients.handshakes.items():
        if not seen.is_promised:
            continue
        if seen.connection is None:
            if handshake not in stored:
                yield Finding("lost opening", str(handshake), "it saw the 101, but no welcome; nothing is stored")
            continue
        life = log.lives.get(seen.connection)
        if life is None or not life.openings:
            yield Finding("lost opening", str(handshake), f"it was welcomed as connection {seen.connection}")
        elif life.handshake is not None and life.handshake != handshake:
            yield Finding("mixed up", str(handshake), f"connection {seen.connection} is stored for {life.handshake}")
    openings = Counter(life.handshake for life in log.lives.values() if life.openings and life.handshake is not None)
    for connection, life in log.lives.items():
        if not life.openings:
            yield Finding("no opening", f"connection {connection}", f"its ends: {', '.join(life.ends) or 'none'}")
            continue
        if life.openings > 1:
            yield Finding("doubled opening", _named(connection, life), f"{life.openings} times")
        if life.handshake is None:
            if connection not in log.nameless:
                yield Finding("phantom opening", f"connection {connection}", "it says nothing of an attempt")
        elif life.handshake not in clients.handshakes:
            yield Finding("phantom opening", _named(connection, life), "no client has made this attempt")
        elif openings[life.handshake] > 1:
            yield Finding("doubled opening", _named(connection, life), "this attempt is stored as several connections")


def _of_ends(clients: ClientAccount, log: LogAccount) -> Iterator[Finding]:
    told = {seen.connection: seen for seen in clients.handshakes.values() if seen.connection is not None}
    for connection, life in log.lives.items():
        if not life.openings:
            continue
        seen = told.get(connection) or (clients.handshakes.get(life.handshake) if life.handshake is not None else None)
        if len(life.ends) > 1:
            yield Finding("two ends", _named(connection, life), ", ".join(life.ends))
        elif seen is None or seen.is_undecided:
            continue
        elif seen.is_open and life.ends:
            yield Finding("ended while open", _named(connection, life), life.ends[0])
        elif not seen.is_open and not life.ends:
            how = seen.ended or f"refused with {seen.refused}"
            yield Finding("no end", _named(connection, life), f"for its client it ended: {how}")


def _of_telemetry(clients: ClientAccount, log: LogAccount) -> Iterator[Finding]:
    nothing: Counter[int] = Counter()
    for page, acknowledged in clients.acknowledged.items():
        stored = log.telemetry.get(page, nothing)
        for seq in sorted(acknowledged - stored.keys()):
            yield Finding("lost telemetry", f"page {page}, sequence {seq}", "its 202 was seen")
    for page, stored in log.telemetry.items():
        attempted = clients.attempted.get(page, set())
        for seq, times in sorted(stored.items()):
            if seq not in attempted:
                yield Finding("phantom telemetry", f"page {page}, sequence {seq}", "no client has sent it")
            if times > 1:
                yield Finding("doubled telemetry", f"page {page}, sequence {seq}", f"{times} times")


def _named(connection: str, life: Life) -> str:
    return f"{life.handshake or 'an unknown client'}, connection {connection}"


def summary(findings: Iterable[Finding], *, named: int = 20) -> str:
    """Findings for people: how many of each kind, then the first of them by name."""
    findings = list(findings)
    counts = Counter(finding.kind for finding in findings)
    lines = [f"{count:6d} x {kind} ({KINDS[kind]})" for kind, count in counts.most_common()]
    lines += [f"  {finding}" for finding in findings[:named]]
    if len(findings) > named:
        lines.append(f"  and {len(findings) - named} more")
    return "\n".join(lines) or "nothing is wrong"
