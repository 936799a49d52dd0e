"""The journal's SQLite file: synchronous, used by one thread, knows nothing of event loops.

What it says of its size counts the pages in use (deleted rows leave free pages, which are used again before the file
grows) and the whole write-ahead log, which a reader that stays open can let grow past any ``max_page_count``.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import msgspec

from pulsetrail.close_codes import Initiator, Reason
from pulsetrail.events import (
    CATALOGUE,
    TERMINAL,
    ConnectionLost,
    Event,
    Source,
    decode_event,
    encode_event,
    encode_payload,
    now_us,
)
from pulsetrail.identity import ClientIdentity, new_id
from pulsetrail.journal.salvage import Salvaged
from pulsetrail.journal.shedding import dropped_event
from pulsetrail.journal.sqlite_file import SQL, SqliteFile

KEEP_SHIPPED_SECONDS: Final = 15 * 60
"""How long shipped rows stay, to be sent again after a database failover that lost its newest commits."""
PURGE_ROWS: Final = 2_000
"""Rows deleted in one go, so that no commit waits long behind a purge."""
_to_json: Final = msgspec.json.Encoder().encode
_RECOVER_ROWS: Final = 1_000


class PendingBatch(NamedTuple):
    """Events of one lane that are not known to be in the log, in order and without holes among themselves."""

    shard: int
    producer_id: UUID
    after_seq: int
    """The newest sequence that is known to be in the log; if ``first_seq`` is not the next, rows are missing."""
    first_seq: int
    events: list[Event]


class LaneState(NamedTuple):
    """One producer's rows of one shard: the newest, and the newest that is known to be in the log."""

    shard: int
    producer_id: UUID
    last_seq: int
    shipped_seq: int


@dataclass(slots=True)
class _Lane:
    producer_no: int
    producer_id: UUID
    shard: int
    last_seq: int = 0
    shipped_seq: int = 0
    purged_seq: int = 0
    unsaved: bool = False


class Store(SqliteFile):
    """One open journal. Every method may raise ``JournalDamaged``, ``JournalFull`` or ``JournalFailed``."""

    def __init__(self, path: Path, *, sync: str, max_bytes: int) -> None:
        """Open or create the file, check it, and begin a new producer in it."""
        super().__init__(path, sync=sync, max_bytes=max_bytes)
        self.producer_id = new_id()
        try:
            with self.transaction() as db:
                db.execute(SQL["add_producer"], (str(self.producer_id), now_us()))
            self._load()
        except BaseException:
            self.abandon()
            raise

    def _load(self) -> None:
        producers = {no: UUID(text) for no, text, _ in self.rows("producers")}
        self._no = max(producers)
        self._lanes: dict[tuple[int, int], _Lane] = {}
        self._shipped: deque[tuple[float, _Lane, int]] = deque()
        for no, shard, last_seq, shipped_seq in self.rows("lanes"):
            lane = _Lane(no, producers[no], shard, last_seq, shipped_seq)
            self._lanes[no, shard] = lane
            self._shipped.append((time.monotonic(), lane, shipped_seq))
        self.identities_pending = bool(self.rows("count_unshipped_identities")[0][0])

    # --- writing --------------------------------------------------------------------------------------------------

    def commit(self, rows: Sequence[tuple[Event, bytes]], identities: Sequence[ClientIdentity]) -> None:
        """Make events (with their encoded form) durable, number them, and keep ``open_connection`` in step."""
        lanes: dict[int, _Lane] = {}
        next_seq: dict[int, int] = {}
        index: list[tuple[int, int, int, int]] = []
        opened: list[tuple[object, ...]] = []
        advanced: dict[str, int] = {}
        ended: list[UUID] = []
        offset = 1
        for event, body in rows:
            shard = event.shard
            seq = next_seq.get(shard)
            if seq is None:
                lane = lanes[shard] = self._lanes.get((self._no, shard)) or _Lane(self._no, self.producer_id, shard)
                seq = lane.last_seq + 1
            index.append((shard, seq, offset, len(body)))
            next_seq[shard] = seq + 1
            offset += len(body)
            if event.connection_id is not None and event.source != Source.CLIENT:
                if event.event_type == "connection.opened":
                    opened.append(_open_row(event))
                elif event.event_type in TERMINAL:
                    ended.append(event.connection_id)
                elif event.connection_seq is not None:
                    advanced[str(event.connection_id)] = event.connection_seq
        now = now_us()
        with self.transaction() as db:
            run = db.execute
            if index:
                run(SQL["add_entries"], (self._no, now, _to_json(index).decode(), b"".join(body for _, body in rows)))
            if opened:
                run(SQL["add_open"], (self._no, _to_json(opened).decode()))
            if advanced:
                run(SQL["advance_open"], (_to_json(advanced).decode(),))
            if ended:
                run(SQL["remove_open"], (_to_json(ended).decode(),))
            if identities:
                run(SQL["add_identities"], (_to_json(identities).decode(),))
            for shard, lane in lanes.items():
                run(SQL["save_lane"], (self._no, shard, next_seq[shard] - 1, lane.shipped_seq))
            run(SQL["touch_producer"], (self._no, now))
        for shard, lane in lanes.items():
            lane.last_seq = next_seq[shard] - 1
            self._lanes[self._no, shard] = lane
        self.identities_pending |= bool(identities)

    def recover(self) -> int:
        """End what earlier processes left open with ``connection.lost``; the number of ended connections.

        Each end and the removal of its row are one commit, so that a crash in between repeats nothing. The connection
        ended, as far as anybody knows, at its process's last sign of life.
        """
        total = 0
        while True:
            left = self.rows("left_open", self._no, _RECOVER_ROWS)
            if not left:
                return total
            events = [_lost_event(*row) for row in left]
            self.commit([(event, encode_event(event)) for event in events], ())
            total += len(events)

    # --- shipping -------------------------------------------------------------------------------------------------

    def lanes(self) -> list[LaneState]:
        """Every lane, older producers first."""
        return [
            LaneState(lane.shard, lane.producer_id, lane.last_seq, lane.shipped_seq)
            for _, lane in sorted(self._lanes.items())
        ]

    @property
    def unshipped(self) -> int:
        """Rows that are not known to be in the log."""
        return sum(lane.last_seq - lane.shipped_seq for lane in self._lanes.values())

    def pending(self, shard: int, limit: int) -> PendingBatch | None:
        """The next rows of a shard to send: of its oldest producer that has any. A row that cannot be decoded comes
        as the ``events.dropped`` that takes its place."""
        for (_, lane_shard), lane in sorted(self._lanes.items()):
            if lane_shard != shard or lane.shipped_seq >= lane.last_seq:
                continue
            rows = self.rows("entries_after", lane.producer_no, shard, lane.shipped_seq, limit)
            first_seq = rows[0][0] if rows else lane.last_seq + 1
            events = []
            for expected, (seq, body) in enumerate(rows, first_seq):
                if seq != expected:  # what follows the hole is the next batch
                    break
                events.append(_decoded(shard, body))
            return PendingBatch(shard, lane.producer_id, lane.shipped_seq, first_seq, events)
        return None

    def mark_shipped(self, shard: int, producer_id: UUID, seq: int) -> None:
        """Rows up to ``seq`` are in the log. Kept in memory until ``save_marks``: to lose it only sends again."""
        lane = self._lane(shard, producer_id)
        if lane is not None and seq > lane.shipped_seq:
            lane.shipped_seq = min(seq, lane.last_seq)
            lane.unsaved = True

    def rewind(self, shard: int, producer_id: UUID, seq: int) -> None:
        """The log ends at ``seq``: what follows is to be sent again, as far as it is still kept."""
        lane = self._lane(shard, producer_id)
        if lane is None or seq >= lane.shipped_seq:
            return
        lane.shipped_seq = seq
        lane.unsaved = True
        self._shipped = deque(mark for mark in self._shipped if mark[1] is not lane or mark[2] <= seq)
        with self.transaction() as db:
            db.execute(SQL["unship_identities"])
        self.identities_pending = True

    def _lane(self, shard: int, producer_id: UUID) -> _Lane | None:
        return next(
            (lane for lane in self._lanes.values() if lane.shard == shard and lane.producer_id == producer_id), None
        )

    def identities(self, limit: int) -> list[ClientIdentity]:
        """Identities that are not known to be in the log."""
        rows = self.rows("unshipped_identities", limit)
        return [ClientIdentity(UUID(ref), client_id, subject) for ref, client_id, subject in rows]

    def mark_identities(self, identities: Sequence[ClientIdentity]) -> None:
        """These identities are in the log."""
        refs = _to_json([identity.client_ref for identity in identities]).decode()
        with self.transaction() as db:
            db.execute(SQL["ship_identities"], (refs, now_us()))
        self.identities_pending = bool(self.rows("count_unshipped_identities")[0][0])

    # --- keeping house --------------------------------------------------------------------------------------------

    def save_marks(self) -> None:
        """Write how far the lanes are shipped, and start the 15 minutes of what was shipped since the last call."""
        changed = [lane for lane in self._lanes.values() if lane.unsaved]
        if changed:
            with self.transaction() as db:
                for lane in changed:
                    db.execute(SQL["save_lane"], (lane.producer_no, lane.shard, lane.last_seq, lane.shipped_seq))
                db.execute(SQL["touch_producer"], (self._no, now_us()))
        for lane in changed:
            lane.unsaved = False
            self._shipped.append((time.monotonic(), lane, lane.shipped_seq))

    def touch(self) -> None:
        """A sign of life of a quiet process."""
        with self.transaction() as db:
            db.execute(SQL["touch_producer"], (self._no, now_us()))

    def purge(self, *, keep_seconds: float = KEEP_SHIPPED_SECONDS) -> int:
        """Delete one chunk of rows that were shipped at least ``keep_seconds`` ago; the number deleted."""
        cutoff = time.monotonic() - keep_seconds
        # Marks of several lanes in one go: there are more of them in a second than there are ticks.
        removed = finished = 0
        if self._shipped and self._shipped[0][0] <= cutoff:
            with self.transaction() as db:
                for marked_at, lane, seq in self._shipped:
                    if marked_at > cutoff:
                        break
                    limit = PURGE_ROWS - removed
                    seq = min(seq, lane.shipped_seq)
                    removed += db.execute(SQL["purge_entries"], (lane.producer_no, lane.shard, seq, limit)).rowcount
                    if removed >= PURGE_ROWS:
                        break
                    finished += 1
        for _ in range(finished):
            _, lane, seq = self._shipped.popleft()
            lane.purged_seq = max(lane.purged_seq, min(seq, lane.shipped_seq))
        if removed:
            return removed
        self._remove_finished()
        with self.transaction() as db:
            return db.execute(SQL["purge_identities"], (now_us() - int(keep_seconds * 1_000_000), PURGE_ROWS)).rowcount

    def _remove_finished(self) -> None:
        """Forget earlier producers whose rows are all shipped and deleted."""
        finished = [
            lane for lane in self._lanes.values() if lane.producer_no != self._no and lane.purged_seq >= lane.last_seq
        ]
        if not finished:
            return
        with self.transaction() as db:
            for lane in finished:
                db.execute(SQL["remove_lane"], (lane.producer_no, lane.shard))
                db.execute(SQL["remove_producer"], (lane.producer_no,))
        for lane in finished:
            del self._lanes[lane.producer_no, lane.shard]

    def oldest_unshipped(self) -> int | None:
        """When the oldest row that is not in the log was journaled, in microseconds."""
        found: list[int] = []
        for lane in self._lanes.values():
            if lane.shipped_seq < lane.last_seq:
                rows = self.rows("oldest_unshipped", lane.producer_no, lane.shard, lane.shipped_seq)
                found.extend(int(row[0]) for row in rows)
        return min(found, default=None)

    def open_connections(self) -> int:
        """How many connections the file holds as open."""
        return int(self.rows("count_open")[0][0])

    def is_spent(self) -> bool:
        """Whether nothing in the file is needed any more: all shipped, all deleted, nothing open."""
        return (
            not self.identities_pending
            and self.open_connections() == 0
            and all(lane.purged_seq >= lane.last_seq for lane in self._lanes.values())
        )

    # --- damage ---------------------------------------------------------------------------------------------------

    def restore(self, salvaged: Salvaged, *, still_open: bool) -> int:
        """Take over what was read of a damaged file, into this new one; the number of events.

        ``still_open``: the connections are this process's own, so they are not to be ended by ``recover``. Events that
        are known to be in the log are left out.
        """
        old_no = max((row[0] for row in salvaged.producers), default=0)
        lanes = {
            (no, shard): _Lane(no, UUID(int=0), shard, last_seq, shipped_seq)
            for no, shard, last_seq, shipped_seq in salvaged.lanes
        }
        restored = 0
        with self.transaction() as db:
            run = db.execute
            run(SQL["renumber_producer"], (self._no, old_no + 1))
            self._no = old_no + 1
            db.executemany(SQL["restore_producer"], salvaged.producers)
            for row in salvaged.entries():
                no, shard, seq = row[:3]
                lane = lanes.setdefault((no, shard), _Lane(no, UUID(int=0), shard, seq, seq - 1))
                if seq > lane.shipped_seq:
                    restored += run(SQL["restore_entry"], row).rowcount
                    lane.last_seq = max(lane.last_seq, seq)
            known = {row[0] for row in salvaged.producers}
            for lane in lanes.values():
                if lane.producer_no in known:
                    run(SQL["save_lane"], (lane.producer_no, lane.shard, lane.last_seq, lane.shipped_seq))
            for connection_id, no, *rest in salvaged.open_connections:
                run(SQL["restore_open"], (connection_id, self._no if still_open and no == old_no else no, *rest))
            if salvaged.identities:
                run(SQL["add_identities"], (_to_json(salvaged.identities).decode(),))
        self._load()
        return restored


def _open_row(event: Event) -> tuple[object, ...]:
    return (
        event.connection_id,
        event.shard,
        event.client_ref,
        event.page_id,
        event.node_id,
        event.node_epoch,
        event.occurred_at,
        event.connection_seq or 0,
    )


def _lost_event(
    connection_id: str,
    shard: int,
    client_ref: str | None,
    page_id: str | None,
    node_id: str | None,
    node_epoch: int | None,
    opened_at: int,
    connection_seq: int,
    alive_at: int,
) -> Event:
    return Event(
        event_id=new_id(),
        event_type="connection.lost",
        schema_version=CATALOGUE["connection.lost"].version,
        source=Source.GATEWAY,
        occurred_at=max(opened_at, alive_at),
        received_at=now_us(),
        shard=shard,
        connection_id=UUID(connection_id),
        connection_seq=connection_seq + 1,
        node_id=node_id,
        node_epoch=node_epoch,
        client_ref=UUID(client_ref) if client_ref else None,
        page_id=page_id,
        reason=Reason.SERVER_CRASHED,
        payload=encode_payload(ConnectionLost(initiator=Initiator.SERVER, opened_at=opened_at)),
    )


def _decoded(shard: int, body: bytes) -> Event:
    try:
        return decode_event(body)
    except msgspec.DecodeError:
        return dropped_event("unknown", "journal_damaged", 1, shard=shard)
