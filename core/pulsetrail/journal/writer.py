"""The thread that writes a journal: one commit per group, housekeeping once a second, nothing else touches the file."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from pulsetrail.errors import JournalError, JournalFailed, JournalFull
from pulsetrail.events import Event, EventClass, Source, encode_event
from pulsetrail.identity import ClientIdentity
from pulsetrail.journal.salvage import salvage, set_aside
from pulsetrail.journal.shedding import FULL, PURGE_EARLY, DropTally, class_of, dropped_event, shed_at
from pulsetrail.journal.sqlite_file import JournalDamaged
from pulsetrail.journal.store import Store
from pulsetrail.observer import PipelineObserver

BACKLOG_EVENTS: Final = 65_536
"""Lifecycle events kept in memory while the disk refuses commits: more than the ends of the connections that one
process may have open."""
TICK_SECONDS: Final = 1.0
ALIVE_SECONDS: Final = 5.0
"""A quiet process signs its journal this often, so that a restart knows when it died."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


Settle = Callable[[JournalError | None], None]
"""Told of a group's commit, with the error if it was refused."""


class Group:
    """What is committed together: the events of one turn of the event loop, or of the previous commit's time."""

    __slots__ = ("events", "identities", "waiters")

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.identities: list[ClientIdentity] = []
        self.waiters: list[Settle] = []


Finished = Callable[[Group, JournalError | None, frozenset[int]], None]


class Writer:
    """Owns the store. Figures are plain attributes, read by other threads without locks."""

    def __init__(
        self, path: Path, *, sync: str, max_bytes: int, observer: PipelineObserver, keep_seconds: float
    ) -> None:
        """Open the file, replacing a damaged one, and start the thread."""
        self.path = path
        self.damaged: Path | None = None
        self.failing: JournalError | None = None
        self.fill = 0.0
        self.unshipped = 0
        self.identities_pending = False
        self._sync = sync
        self._max_bytes = max_bytes
        self._observer = observer
        self._keep_seconds = keep_seconds
        self._tally = DropTally()
        self._backlog: list[tuple[Event, bytes]] = []
        self._backlog_identities: list[ClientIdentity] = []
        self._recovering = False
        self._signed = time.monotonic()
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.unasked: Finished = _tell_nobody
        try:
            self._store = self._open()
        except JournalDamaged as damage:
            aside = self._set_aside(damage)
            self._store = self._open()
            self._store.restore(salvage(aside), still_open=False)
        self.used_bytes = 0
        self._measure()
        # A daemon: what is recorded and not yet committed was promised to nobody, so it may not delay an exit.
        self._thread = threading.Thread(target=self._run, name=f"journal-{path.stem}", daemon=True)
        self._thread.start()

    # --- called from other threads --------------------------------------------------------------------------------

    @property
    def producer_id(self) -> UUID:
        """Whose lanes new events go to."""
        return self._store.producer_id

    def commit(self, group: Group, finished: Finished) -> None:
        """Commit a group; ``finished`` is called on this thread with the error, if any, and the shards written."""
        self._queue.put(partial(self._commit, group, finished))

    async def call(self, work: Callable[[Store], _T]) -> _T:
        """Do something with the store and return its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def resolve(result: _T | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(result)  # type: ignore[arg-type]  # without an error there is a result
            else:
                future.set_exception(error)

        def run() -> None:
            result, error = None, None
            try:
                result = self._with_store(work)
            except Exception as caught:  # whatever it is, it belongs to the caller
                error = caught
            loop.call_soon_threadsafe(resolve, result, error)

        self._queue.put(run)
        return await future

    async def recover(self) -> int:
        """End what earlier processes left open. Where the cap stops that, it goes on as shipping makes room."""
        return await self.call(self._recover)

    def stop(self) -> None:
        """Finish what is queued, close the file, end the thread. Blocks."""
        self._queue.put(None)
        self._thread.join()

    # --- the thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_tick = time.monotonic() + TICK_SECONDS
        while True:
            try:
                work = self._queue.get(timeout=max(0.0, next_tick - time.monotonic()))
            except queue.Empty:
                pass
            else:
                if work is None:
                    break
                try:
                    work()
                except Exception:  # the thread outlives every fault, or the process would hang at its next commit
                    _log.exception("The journal %s met an unexpected fault", self.path)
            if time.monotonic() >= next_tick:
                self._guarded(lambda _: self._tick())
                next_tick = time.monotonic() + TICK_SECONDS
        if self._backlog:
            self._commit(Group(), self.unasked)
        if self._backlog:
            _log.error("%d events that the disk refused end with the process", len(self._backlog))
        self._guarded(Store.save_marks)
        self._guarded(Store.close)

    def _guarded(self, work: Callable[[Store], object]) -> None:
        try:
            self._with_store(work)
        except JournalError as error:
            if self.failing is None:  # otherwise it was said when it began
                _log.warning("%s", error)

    def _with_store(self, work: Callable[[Store], _T]) -> _T:
        """Run ``work``; when the file turns out to be damaged, replace it and try once more."""
        try:
            if self._store.is_closed:
                self._renew()
            return work(self._store)
        except JournalDamaged as damage:
            self._replace(damage)
            return work(self._store)
        finally:
            self._count()

    def _recover(self, store: Store) -> int:
        try:
            ended = store.recover()
        except JournalFull:
            self._recovering = True
            return 0
        self._recovering = False
        return ended

    def _commit(self, group: Group, finished: Finished) -> None:
        started = time.monotonic()
        rows = [*self._backlog, *self._admitted(group.events)]
        identities = [*self._backlog_identities, *group.identities]
        error: JournalError | None = None
        try:
            self._write(rows, identities)
        except JournalError as refused:
            error = refused
        except Exception as fault:  # a waiter must never hang, whatever went wrong
            _log.exception("The journal %s met an unexpected fault", self.path)
            error = JournalFailed(self.path, repr(fault))
        if error is None:
            self._backlog, self._backlog_identities = [], []
        else:
            self._keep(rows, error)
            self._backlog_identities = identities[:BACKLOG_EVENTS]
        self._set_failing(error)
        self._measure()
        finished(group, error, frozenset(event.shard for event, _ in rows))
        if error is None and rows:
            self._observer.journal_committed(len(rows), time.monotonic() - started)
        if self.fill >= PURGE_EARLY:  # as fast as it fills, so that nothing is shed for the sake of shipped rows
            self._guarded(lambda store: store.purge(keep_seconds=0))
            self._measure()

    def _write(self, rows: list[tuple[Event, bytes]], identities: list[ClientIdentity]) -> None:
        needed = sum(len(body) for _, body in rows) / self._max_bytes
        if self.fill + needed >= FULL:
            self._make_room(needed)
        self._with_store(lambda store: store.commit(rows, identities))

    def _make_room(self, needed: float) -> None:
        """Delete everything that is in the log already and empty the write-ahead log.

        Raises:
            JournalFull: that was not enough.
        """
        while self._with_store(lambda store: store.purge(keep_seconds=0)):
            pass
        self._with_store(lambda store: store.checkpoint())
        self._measure()
        if self.fill + needed >= FULL:
            raise JournalFull(self.path, self._max_bytes)

    def _admitted(self, events: Iterable[Event]) -> Iterable[tuple[Event, bytes]]:
        """Encode what is not shed, then what was shed before and is due to be told."""
        shed = shed_at(self.fill)
        for event in events:
            if shed and class_of(event) in shed:
                self._drop(event, "journal_full")
                continue
            try:
                yield event, encode_event(event)
            except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
                _log.exception("An event of type %s cannot be written down", event.event_type)
                self._drop(event, "unencodable")
        for event in self._tally.due(time.monotonic()):
            yield event, encode_event(event)

    def _keep(self, rows: list[tuple[Event, bytes]], error: JournalError) -> None:
        """After a refused commit, keep the lifecycle events for the next one.

        Not ``connection.opened``, nor what browsers sent: who recorded those waits for the commit, is told of the
        failure by it, and refuses the handshake or lets the browser send again.
        """
        cause = "journal_full" if isinstance(error, JournalFull) else "journal_failed"
        self._backlog = []
        for event, body in rows:
            if event.event_type == "connection.opened" or event.source in (Source.CLIENT, Source.BROWSER):
                continue
            if class_of(event) is EventClass.LIFECYCLE and len(self._backlog) < BACKLOG_EVENTS:
                self._backlog.append((event, body))
            else:
                self._drop(event, cause)

    def _drop(self, event: Event, cause: str) -> None:
        self._tally.add(event, cause)
        self._observer.events_dropped(class_of(event), cause, 1)

    def _set_failing(self, error: JournalError | None) -> None:
        if error is not None and self.failing is None:
            _log.error("%s", error)
        elif error is None and self.failing is not None:
            _log.warning("The journal %s can be written again", self.path)
        self.failing = error

    def _tick(self) -> None:
        if self.failing is not None or self._tally.pending:
            self._commit(Group(), self.unasked)
        store = self._store
        if self._recovering:
            self._recover(store)
        store.save_marks()
        if time.monotonic() - self._signed >= ALIVE_SECONDS:
            self._signed = time.monotonic()
            store.touch()
        store.purge(keep_seconds=self._keep_seconds if self.fill < PURGE_EARLY else 0)
        store.shrink()
        if self.fill >= PURGE_EARLY:
            store.checkpoint()
        self._measure()
        oldest = store.oldest_unshipped()
        age = max(0.0, time.time() - oldest / 1_000_000) if oldest is not None else 0.0
        self._observer.journal_size(self.unshipped, self.used_bytes, age)

    def _measure(self) -> None:
        try:
            self.used_bytes = self._store.used_bytes()
        except JournalError:  # the failure shows at the next commit; the last figure stands until then
            return
        self.fill = self.used_bytes / self._max_bytes

    def _count(self) -> None:
        self.unshipped = self._store.unshipped
        self.identities_pending = self._store.identities_pending

    # --- damage ---------------------------------------------------------------------------------------------------

    def _open(self) -> Store:
        return Store(self.path, sync=self._sync, max_bytes=self._max_bytes)

    def _set_aside(self, damage: JournalDamaged) -> Path:
        self.damaged = set_aside(self.path)
        _log.error("%s It is kept as %s and replaced", damage, self.damaged)
        return self.damaged

    def _replace(self, damage: JournalDamaged) -> None:
        """The file in use is damaged: begin a new one."""
        self._store.abandon()
        self._set_aside(damage)
        self._renew()

    def _renew(self) -> None:
        """Begin a new file after the old one was set aside, carry over what can be read, count what is gone.

        When the disk refuses that, the old store stays closed and the next work tries again.
        """
        expected = self._store.unshipped
        store = self._open()
        restored = store.restore(salvage(self.damaged), still_open=True) if self.damaged else 0
        self._store = store
        if expected > restored:
            event = dropped_event("unknown", "journal_damaged", expected - restored, shard=0)
            self._backlog.append((event, encode_event(event)))
            self._observer.events_dropped("unknown", "journal_damaged", expected - restored)


def _tell_nobody(group: Group, error: JournalError | None, shards: frozenset[int]) -> None:
    """Before anybody listens."""
