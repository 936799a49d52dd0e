"""The checker itself: it finds nothing in a sound history, and in one with a planted fault exactly that fault."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from checker import KINDS, ClientAccount, Handshake, LogAccount, StoredEvent, judge, summary
from hypothesis import given
from hypothesis import strategies as st
from records import (
    Attempted,
    BatchAcknowledged,
    BatchAttempted,
    Ended,
    Entry,
    Record,
    RecordReader,
    Refused,
    Upgraded,
    Welcomed,
)

SHARDS = 2
FATES = ("unreachable", "killed unseen", "101 only", "refused", "welcomed", "reported late")
"""How a handshake may go. ``killed unseen``: stored, but its client never saw the 101."""


class History(NamedTuple):
    """What the clients wrote, and what is stored, by shard in the order of positions."""

    entries: list[Entry]
    rows: dict[int, list[StoredEvent]]

    def judged(self, *, one_lane: bool = True) -> Counter[str]:
        clients, log = ClientAccount(), LogAccount()
        clients.add(self.entries)
        for rows in self.rows.values():
            for row in rows:
                log.add(row)
        findings = judge(clients, log, one_lane=one_lane)
        assert all(finding.kind in KINDS for finding in findings)
        assert summary(findings)
        return Counter(finding.kind for finding in findings)

    def place(self, shard: int, index: int, row: StoredEvent) -> None:
        """Put a row in between and number the shard anew."""
        self.rows[shard].insert(index, row)
        self.number(shard)

    def take(self, row: StoredEvent) -> None:
        """Take a row out and close the gap."""
        self.rows[row.shard].remove(row)
        self.number(row.shard)

    def number(self, shard: int) -> None:
        self.rows[shard] = [
            row._replace(shard=shard, position=position) for position, row in enumerate(self.rows[shard], 1)
        ]

    def find(self, matches: Callable[[StoredEvent], bool]) -> StoredEvent:
        """A row that matches; there always is one, for the last client's fates are fixed."""
        return next(row for rows in self.rows.values() for row in rows if matches(row))


def row(shard: int, event_type: str, **fields: object) -> StoredEvent:
    empty = StoredEvent(shard, 0, event_type, "gateway", None, None, None, None, None, None, 0)
    return empty._replace(**fields)  # type: ignore[arg-type]  # names of fields with values of theirs


def connection_rows(
    shard: int, client: str, attempt: int, connection: str, *, open_: bool, late: bool
) -> list[StoredEvent]:
    rows = [
        row(shard, "connection.opened", connection=connection, client=client, attempt=attempt, connection_seq=1),
        row(shard, "heartbeat.missed", connection=connection, connection_seq=2),
    ]
    if late:
        rows += [
            row(shard, "connection.lost", connection=connection, source="reaper"),
            row(shard, "connection.end_reported_late", connection=connection, connection_seq=3),
        ]
    elif not open_:
        rows.append(row(shard, "connection.closed", connection=connection, connection_seq=3))
    return rows


def sound(seed: int, clients: list[list[str]]) -> History:
    """A history without a fault: a list of fates for each client; lives overlap as they do under load."""
    rng = random.Random(seed)
    entries: list[Entry] = []
    stored: dict[int, list[list[StoredEvent]]] = {shard: [] for shard in range(SHARDS)}
    for number, fates in enumerate(clients):
        client, shard = f"c{number}", number % SHARDS
        stays = rng.random() < 0.5
        for attempt, fate in enumerate(fates, 1):
            connection = f"{client}/{attempt}"
            entries.append(Attempted(client, attempt, "p"))
            is_open = stays and attempt == len(fates) and fate in ("welcomed", "101 only")
            if fate in ("101 only", "welcomed", "reported late", "refused"):
                entries.append(Upgraded(client, attempt))
            if fate in ("welcomed", "reported late"):
                entries.append(Welcomed(client, attempt, connection))
            if fate == "refused":
                entries.append(Refused(client, attempt, 1013))
            if not is_open:
                entries.append(Ended(client, attempt, "vanished"))
            if fate not in ("unreachable", "refused"):
                late = fate == "reported late"
                stored[shard].append(connection_rows(shard, client, attempt, connection, open_=is_open, late=late))
        page = f"{client}.p1"
        sent, acknowledged, durable = 12, rng.randint(1, 6), rng.randint(6, 9)
        entries += [BatchAttempted(page, 1, acknowledged), BatchAcknowledged(page, 1, acknowledged)]
        entries.append(BatchAttempted(page, acknowledged + 1, sent))  # its answer never came
        stored[shard].append(
            [row(shard, "page.visible", source="client", page=page, page_seq=seq) for seq in range(1, durable + 1)]
        )
    history = History(entries, {shard: _interleaved(rng, lives) for shard, lives in stored.items()})
    for shard in history.rows:
        history.number(shard)
    return history


def _interleaved(rng: random.Random, sequences: list[list[StoredEvent]]) -> list[StoredEvent]:
    order = [index for index, sequence in enumerate(sequences) for _ in sequence]
    rng.shuffle(order)
    iterators = [iter(sequence) for sequence in sequences]
    return [next(iterators[index]) for index in order]


histories = st.builds(
    # Two clients of fixed fates, one in each shard, so that every fault has a place where it can be planted.
    lambda seed, clients: sound(seed, [*clients, *([["welcomed", "killed unseen", "101 only", "unreachable"]] * 2)]),
    st.integers(0, 2**32),
    st.lists(st.lists(st.sampled_from(FATES), min_size=1, max_size=4), max_size=6),
)


@given(histories)
def test_nothing_is_found_in_a_history_that_keeps_every_promise(history: History) -> None:
    assert history.judged() == {}


# --- planted faults ---------------------------------------------------------------------------------------------------


def is_end(one: StoredEvent) -> bool:
    return one.event_type == "connection.closed"


def is_telemetry(one: StoredEvent) -> bool:
    return one.source == "client"


def fate_of(history: History, one: StoredEvent) -> str:
    clients = ClientAccount()
    clients.add(history.entries)
    assert one.client is not None
    assert one.attempt is not None
    seen = clients.handshakes[Handshake(one.client, one.attempt)]
    if seen.connection is not None:
        return "welcomed"
    return "101 only" if seen.upgraded else "unseen"


def forget_connection(history: History, fate: str) -> None:
    opened = history.find(lambda one: one.event_type == "connection.opened" and fate_of(history, one) == fate)
    rows = history.rows[opened.shard]
    rows[:] = [one for one in rows if one.connection != opened.connection]
    history.number(opened.shard)


def lose_a_welcomed_opening(history: History) -> None:
    forget_connection(history, "welcomed")


def lose_an_opening_whose_welcome_never_came(history: History) -> None:
    forget_connection(history, "101 only")


def lose_telemetry(history: History) -> None:
    history.take(history.find(lambda one: is_telemetry(one) and one.page_seq == 1))


def invent_a_connection(history: History) -> None:
    for one in reversed(connection_rows(0, "nobody", 1, "nobody/1", open_=False, late=False)):
        history.place(0, 0, one)


def invent_a_connection_of_an_attempt_never_made(history: History) -> None:
    for one in reversed(connection_rows(0, "c0", 99, "c0/99", open_=False, late=False)):
        history.place(0, 0, one)


def invent_a_connection_that_says_nothing(history: History) -> None:
    opened, *others = connection_rows(0, "c0", 1, "c0/x", open_=False, late=False)
    for one in reversed([opened._replace(attempt=None), *others]):
        history.place(0, 0, one)


def invent_telemetry(history: History) -> None:
    history.place(0, 0, row(0, "page.visible", source="client", page="nobody", page_seq=1))


def store_telemetry_twice(history: History) -> None:
    one = history.find(lambda one: is_telemetry(one) and one.page_seq == 6)
    history.place(one.shard, one.position, one)


def store_an_opening_twice(history: History) -> None:
    one = history.find(lambda one: one.event_type == "connection.opened")
    history.place(one.shard, one.position - 1, one._replace(connection_seq=None))


def open_an_attempt_as_two_connections(history: History) -> None:
    one = history.find(lambda one: one.event_type == "connection.opened" and fate_of(history, one) == "unseen")
    assert one.client is not None
    assert one.attempt is not None
    for copy in reversed(connection_rows(one.shard, one.client, one.attempt, "again", open_=False, late=False)):
        history.place(one.shard, 0, copy)


def swap_the_ids_of_two_connections(history: History) -> None:
    openings = [one for rows in history.rows.values() for one in rows if one.event_type == "connection.opened"]
    first, second = [one for one in openings if fate_of(history, one) == "welcomed"][-2:]
    for one, other in ((first, second), (second, first)):
        swapped = one._replace(client=other.client, attempt=other.attempt)
        history.rows[one.shard][one.position - 1] = swapped


def forget_an_end(history: History) -> None:
    history.take(history.find(is_end))


def end_twice(history: History) -> None:
    one = history.find(is_end)
    again = one._replace(event_type="connection.lost", source="reaper", connection_seq=None)
    history.place(one.shard, one.position, again)


def end_without_an_opening(history: History) -> None:
    history.place(0, 0, row(0, "connection.lost", connection="unheard of", source="reaper"))


def leave_a_hole(history: History) -> None:
    rows = history.rows[0]
    rows[1:] = [one._replace(position=one.position + 1) for one in rows[1:]]


def swap_two_events_of_a_connection(history: History) -> None:
    missed = history.find(lambda one: one.event_type == "heartbeat.missed")
    rows = history.rows[missed.shard]
    end = next((one for one in rows if one.connection == missed.connection and one.connection_seq == 3), None)
    other = end or next(one for one in rows if one.connection == missed.connection and one.connection_seq == 1)
    rows[missed.position - 1] = other._replace(position=missed.position)
    rows[other.position - 1] = missed._replace(position=other.position)


def swap_two_events_of_a_page(history: History) -> None:
    first = history.find(lambda one: is_telemetry(one) and one.page_seq == 1)
    rows = history.rows[first.shard]
    second = next(one for one in rows if one.page == first.page and one.page_seq == 2)
    rows[first.position - 1] = second._replace(position=first.position)
    rows[second.position - 1] = first._replace(position=second.position)


def forget_who_a_client_is(history: History) -> None:
    one = history.find(lambda one: one.event_type == "connection.opened" and fate_of(history, one) == "welcomed")
    history.rows[one.shard][one.position - 1] = one._replace(client=None)


def give_events_up(history: History) -> None:
    history.place(0, 0, row(0, "events.dropped", dropped=3))


PLANTED = [
    (lose_a_welcomed_opening, {"lost opening": 1}),
    (lose_an_opening_whose_welcome_never_came, {"lost opening": 1}),
    (lose_telemetry, {"lost telemetry": 1}),
    (invent_a_connection, {"phantom opening": 1}),
    (invent_a_connection_of_an_attempt_never_made, {"phantom opening": 1}),
    (invent_a_connection_that_says_nothing, {"phantom opening": 1}),
    (invent_telemetry, {"phantom telemetry": 1}),
    (store_telemetry_twice, {"doubled telemetry": 1}),
    (store_an_opening_twice, {"doubled opening": 1}),
    (open_an_attempt_as_two_connections, {"doubled opening": 2}),
    (swap_the_ids_of_two_connections, {"mixed up": 2}),
    (forget_an_end, {"no end": 1}),
    (end_twice, {"two ends": 1}),
    (end_without_an_opening, {"no opening": 1}),
    (leave_a_hole, {"hole": 1}),
    (swap_two_events_of_a_connection, {"out of order": 1}),
    (swap_two_events_of_a_page, {"out of order": 1}),
    (forget_who_a_client_is, {"no identity": 1}),
    (give_events_up, {"dropped": 1}),
]


@pytest.mark.parametrize(("plant", "expected"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
@given(history=histories)
def test_a_planted_fault_is_found_and_no_other(
    plant: Callable[[History], None], expected: dict[str, int], history: History
) -> None:
    plant(history)
    assert history.judged() == expected


@given(histories)
def test_the_end_of_a_connection_that_its_client_still_has_is_found(history: History) -> None:
    last = f"c{max(int(entry.client[1:]) for entry in history.entries if isinstance(entry, Attempted))}"
    gone = Ended(last, 1, "vanished")  # its first fate is to be welcomed
    history.entries.remove(gone)
    assert history.judged() == {"ended while open": 1}


@given(histories)
def test_with_several_lanes_only_the_order_of_each_is_promised(history: History) -> None:
    swap_two_events_of_a_page(history)
    assert history.judged(one_lane=False) == {}


# --- records ----------------------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_grows_and_a_line_that_is_being_written_is_left_for_later(tmp_path: Path) -> None:
    path = tmp_path / "clients.jsonl"
    reader = RecordReader([path])
    assert reader.read() == []
    with Record(path) as record:
        record.write(Attempted("c1", 1, "p"))
        assert reader.read() == [Attempted("c1", 1, "p")]
        with path.open("ab") as file:
            file.write(b'{"what":"101 seen","client":"c1",')
        assert reader.read() == []
        with path.open("ab") as file:
            file.write(b'"attempt":1}\n')
        record.write(BatchAttempted("p", 1, 3))
        assert reader.read() == [Upgraded("c1", 1), BatchAttempted("p", 1, 3)]
        assert reader.read() == []
