"""The event loop's side of the journal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from uuid import UUID

from pulsetrail.errors import JournalError, JournalFailed
from pulsetrail.events import Event
from pulsetrail.identity import ClientIdentity
from pulsetrail.journal.ownership import Ownership
from pulsetrail.journal.shedding import REFUSE_HANDSHAKES, SHED_ACCOUNT
from pulsetrail.journal.store import KEEP_SHIPPED_SECONDS, LaneState, PendingBatch, Store
from pulsetrail.journal.writer import Group, Settle, Writer
from pulsetrail.observer import NullObserver, PipelineObserver

_log = logging.getLogger(__name__)

_KNOWN_CLIENTS: Final = 50_000
"""Clients whose identity was recorded lately and is not recorded again."""


class Journal:
    """One process's journal; everything here is called on one event loop."""

    def __init__(self, ownership: Ownership, writer: Writer) -> None:
        """Use ``Journal.open``."""
        self._ownership = ownership
        self._writer = writer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._filling = Group()
        self._committing: Group | None = None
        self._turn_ends = False
        self._closed = False
        self._known: dict[UUID, str | None] = {}
        self._listeners: list[Callable[[frozenset[int]], None]] = []

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        sync: str = "full",
        max_bytes: int = 1 << 30,
        observer: PipelineObserver | None = None,
        keep_seconds: float = KEEP_SHIPPED_SECONDS,
    ) -> Self:
        """Own and open the journal at ``path``, making it and its directory if need be; starts the writer thread.

        Args:
            path: the SQLite file; ``<path>.lock`` is its lock.
            sync: ``full`` (durable means fsynced) or ``normal`` (survives a crash of the process only).
            max_bytes: cap of the file and its write-ahead log.
            observer: receives the journal's own figures; called on the writer thread.
            keep_seconds: how long rows stay after they were shipped.

        Raises:
            JournalInUse: another process owns it.
            JournalFailed: the file cannot be opened or made.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            ownership = Ownership(path)
        except OSError as error:
            raise JournalFailed(path, str(error)) from error
        try:
            writer = Writer(
                path, sync=sync, max_bytes=max_bytes, observer=observer or NullObserver(), keep_seconds=keep_seconds
            )
        except BaseException:
            ownership.release()
            raise
        return cls(ownership, writer)

    # --- figures --------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._writer.path

    @property
    def producer_id(self) -> UUID:
        """Whose lanes new events go to: new at each start, and after a damaged file was replaced."""
        return self._writer.producer_id

    @property
    def damaged(self) -> Path | None:
        """Where the last damaged file was set aside; ``None`` when the journal was sound."""
        return self._writer.damaged

    @property
    def failing(self) -> JournalError | None:
        """Why the last commit was refused; ``None`` when it was not."""
        return self._writer.failing

    @property
    def fill(self) -> float:
        """Used part of the cap, write-ahead log included, as of the last commit."""
        return self._writer.fill

    @property
    def unshipped(self) -> int:
        """Events that are not known to be in the log, as of the last commit."""
        return self._writer.unshipped

    @property
    def accepts_handshakes(self) -> bool:
        """Whether a new connection's events, and all ends, still fit; and the disk takes commits."""
        return self._writer.fill < REFUSE_HANDSHAKES and self._writer.failing is None

    @property
    def accepts_telemetry(self) -> bool:
        """Whether what a browser sends now would be kept."""
        return self._writer.fill < SHED_ACCOUNT and self._writer.failing is None

    # --- recording ------------------------------------------------------------------------------------------------

    def record(self, event: Event, identity: ClientIdentity | None = None) -> None:
        """Take an event for the next commit. Never blocks, never raises for the disk's sake.

        ``identity`` names the client behind ``event.client_ref``; repeated ones cost nothing.
        """
        self._filling.events.append(event)
        if identity is not None:
            self._remember(identity)
        if not self._turn_ends:
            self._turn_ends = True
            if self._loop is None:
                self._loop = asyncio.get_running_loop()
            self._loop.call_soon(self._end_turn)

    async def durable(self) -> None:
        """Return when everything recorded in this turn of the loop is committed; see the package's docstring.

        Raises:
            JournalFull: the cap is reached.
            JournalFailed: the disk refused, or the journal is closed.
        """
        if not self._filling.events and self._committing is None:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: JournalError | None) -> None:
            if waiter.done():  # its task was cancelled
                return
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

        self.when_durable(settle)
        await waiter

    def when_durable(self, settle: Settle) -> None:
        """Call ``settle`` on the loop when everything recorded in this turn of it is committed, with the error if it
        was refused; ``durable`` without a task."""
        group = self._filling if self._filling.events else self._committing
        if self._closed:
            settle(JournalFailed(self.path, "it is closed"))
        elif group is None:
            settle(None)
        else:
            group.waiters.append(settle)

    def _remember(self, identity: ClientIdentity) -> None:
        known = self._known
        if identity.client_ref in known and known[identity.client_ref] == identity.subject:
            return
        if len(known) >= _KNOWN_CLIENTS:
            del known[next(iter(known))]
        known[identity.client_ref] = identity.subject
        self._filling.identities.append(identity)

    def _end_turn(self) -> None:
        self._turn_ends = False
        if self._committing is None:
            self._hand_over()

    def _hand_over(self) -> None:
        group, self._filling = self._filling, Group()
        self._committing = group
        self._writer.commit(group, self._finished)

    def _finished(self, group: Group, error: JournalError | None, shards: frozenset[int]) -> None:
        """On the writer thread: a group is done."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._settle, group, error, shards)

    def _finished_unasked(self, group: Group, error: JournalError | None, shards: frozenset[int]) -> None:
        """On the writer thread: it has committed what it had kept back."""
        loop = self._loop
        if error is None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell, shards)

    def _settle(self, group: Group, error: JournalError | None, shards: frozenset[int]) -> None:
        self._committing = None
        if self._filling.events:
            self._hand_over()
        for settle in group.waiters:
            try:
                settle(None if error is None else type(error)(*error.args))
            except Exception:  # one that fails must not keep the others waiting
                _log.exception("What waited for the journal %s failed", self.path)
        if error is None:
            self._tell(shards)

    def _tell(self, shards: frozenset[int]) -> None:
        for listener in self._listeners:
            listener(shards)

    async def recover(self) -> int:
        """End with ``connection.lost`` (``server_crashed``) what an earlier process left open in this file.

        In a journal that is full to its last byte that waits until shipping has made room.

        Returns:
            How many connections were ended by now.
        """
        ended = await self._writer.recover()
        self._tell(frozenset(lane.shard for lane in await self.lanes()))
        return ended

    async def close(self, *, remove: bool = False) -> None:
        """Commit what was recorded, close the file and let go of it; with ``remove``, delete it."""
        if self._closed:
            return
        if self._filling.events and self._committing is None:
            self._hand_over()
        while self._committing is not None:
            with suppress(JournalError):  # those who need it wait for themselves
                await self.durable()
        self._closed = True
        await asyncio.to_thread(self._writer.stop)
        if remove:
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self._ownership.release(remove=remove)

    async def __aenter__(self) -> Self:
        """The journal itself; leaving the context closes it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- for the shipper ------------------------------------------------------------------------------------------

    def listen(self, listener: Callable[[frozenset[int]], None]) -> None:
        """Call ``listener`` on the loop with the shards of every commit, after it."""
        self._loop = asyncio.get_running_loop()
        self._writer.unasked = self._finished_unasked
        self._listeners.append(listener)

    async def lanes(self) -> list[LaneState]:
        """Every lane of the file, older producers first."""
        return await self._writer.call(lambda store: store.lanes())

    async def pending(self, shard: int, limit: int) -> PendingBatch | None:
        """The next events of a shard to send; ``None`` when all are in the log."""
        return await self._writer.call(lambda store: store.pending(shard, limit))

    async def mark_shipped(self, shard: int, producer_id: UUID, seq: int) -> None:
        """Events up to ``seq`` of a lane are in the log."""
        await self._writer.call(lambda store: store.mark_shipped(shard, producer_id, seq))

    async def rewind(self, shard: int, producer_id: UUID, seq: int) -> None:
        """The log's lane ends at ``seq``: send again what follows, and the identities."""
        await self._writer.call(lambda store: store.rewind(shard, producer_id, seq))

    @property
    def has_identities(self) -> bool:
        """Whether identities wait to be shipped, as of the last commit."""
        return self._writer.identities_pending

    async def identities(self, limit: int) -> list[ClientIdentity]:
        """Identities that are not in the log yet."""
        return await self._writer.call(lambda store: store.identities(limit))

    async def mark_identities(self, identities: Sequence[ClientIdentity]) -> None:
        """These identities are in the log."""
        await self._writer.call(lambda store: store.mark_identities(identities))

    async def discard_shipped(self) -> bool:
        """Delete everything that is in the log, however young; whether the file holds nothing more that is needed."""

        def discard(store: Store) -> bool:
            store.save_marks()
            while store.purge(keep_seconds=0):
                pass
            return store.is_spent()

        return await self._writer.call(discard)

    async def open_connections(self) -> int:
        """How many connections the file holds as open."""
        return await self._writer.call(lambda store: store.open_connections())
