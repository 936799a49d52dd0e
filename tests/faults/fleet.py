"""Clients by the thousand in one process: they connect, answer heartbeats, come back as the browser client does, send
telemetry, churn on demand, and keep a record of all of it on disk (``records``).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from types import TracebackType
from typing import Any, Final, Self

import msgspec
from outbox import Outbox, Senders
from records import Attempted, Ended, Record, Refused, Upgraded, Welcomed
from websocket_link import Link

from pulsetrail.close_codes import BY_CODE, is_retryable

OPEN_HOUSE: Final = {
    "PULSETRAIL_HANDSHAKE_RATE": "1000000/second",
    "PULSETRAIL_HANDSHAKE_RATE_PER_ADDRESS": "1000000/second",
    "PULSETRAIL_MAX_CONNECTIONS_PER_ADDRESS": "100000",
    "PULSETRAIL_TELEMETRY_RATE": "1000000/second",
    "PULSETRAIL_TELEMETRY_RATE_PER_ADDRESS": "1000000/second",
    "PULSETRAIL_RECONNECT_SPREAD": "1",
}
"""Settings of a service that a whole fleet visits from one address."""

HANDSHAKE_SECONDS: Final = 10.0
CONNECTING: Final = 200
"""Handshakes that are under way at once; more only wait in the listen queue."""
CLIENTS_PER_ADDRESS: Final = 10_000
"""An address has fewer than 30,000 free ports."""
_TALK_SECONDS: Final = 0.05
_CHURN_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Habits:
    """How a fleet behaves; times in seconds."""

    backoff_base: float = 0.2
    backoff_factor: float = 1.5
    backoff_cap: float = 2.0
    backoff_jitter: float = 0.1
    stable: float = 2.0
    """How long a connection has to last before the next backoff starts from the beginning."""
    telemetry_interval: float = 1.0
    """Between two events of a page beside those that its connection causes."""
    senders: int = 8
    """HTTP connections for telemetry."""


PATIENT: Final = Habits(backoff_base=2.0, backoff_cap=60.0, backoff_jitter=0.5, stable=120.0, telemetry_interval=10.0)
"""As the browser client behaves by default."""


class ServerMessage(msgspec.Struct):
    """What a client has to understand."""

    type: str
    seq: int | None = None
    connection: str | None = None
    retry_after_ms: int | None = None


_decode: Final = msgspec.json.Decoder(ServerMessage).decode

WAYS: Final = ("normal", "page_closed", "client_asleep", "vanished", "reset")
"""How a client leaves by itself."""
_CODES: Final = {"normal": 1000, "page_closed": 1001, "client_asleep": 4102}


class Client:
    """One client: at most one connection at a time, and one page's telemetry. It is its link's ``Owner``."""

    __slots__ = (
        "_attempt",
        "_beaten_at",
        "_connection",
        "_failures",
        "_fleet",
        "_hint_ms",
        "_link",
        "_lost_at",
        "_opened_at",
        "_page",
        "_previous",
        "_refused",
        "_stays_away",
        "_wait",
        "name",
        "outbox",
        "source",
    )

    def __init__(self, fleet: Fleet, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.outbox = Outbox(name, f"{name}.p1")
        self._fleet = fleet
        self._attempt = 0
        self._link: Link | None = None
        self._page = 1
        self._refused = False
        self._connection: str | None = None
        self._opened_at = self._beaten_at = 0.0
        self._lost_at: float | None = None
        self._previous: tuple[str | None, int | None, bool, str] | None = None
        self._failures = 0
        self._hint_ms: int | None = None
        self._wait: asyncio.TimerHandle | None = None
        self._stays_away = False

    @property
    def is_open(self) -> bool:
        """Whether it has been welcomed and has not lost the connection."""
        return self._connection is not None

    # --- connecting ---

    async def connect(self) -> None:
        """One attempt, from its line in the record to the TCP connection; the rest arrives through the link."""
        fleet = self._fleet
        async with fleet.connecting:
            if self._stays_away or self._link is not None:
                return
            self._attempt += 1
            self._refused = False
            attempt, self._opened_at = self._attempt, time.monotonic()
            fleet.record.write(Attempted(self.name, attempt, self.outbox.page))
            self.outbox.put("attempt.started", attempt=attempt)
            link = self._link = Link(self, fleet.host, fleet.port, f"/ws/updates?{self._query()}")
            try:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    await fleet.loop.create_connection(
                        lambda: link, fleet.host, fleet.port, local_addr=(self.source, 0)
                    )
            except (OSError, TimeoutError):
                if self._link is link:
                    self._over("unreachable", None)
                return
            fleet.loop.call_later(HANDSHAKE_SECONDS, self._expect_welcome, attempt)

    def _query(self) -> str:
        """Who this is, and what it knows of its previous connection."""
        query = f"client={self.name}&page={self.outbox.page}&app=faults&attempt={self._attempt}"
        if self._previous is not None and self._lost_at is not None:
            connection, code, clean, cause = self._previous
            query += (
                f"&cause={cause}&prev_clean={int(clean)}&downtime_ms={int((time.monotonic() - self._lost_at) * 1000)}"
            )
            query += "" if connection is None else f"&prev={connection}"
            query += "" if code is None else f"&prev_code={code}"
        return query

    def _expect_welcome(self, attempt: int) -> None:
        if attempt == self._attempt and self._link is not None and self._connection is None:
            self._leave("no welcome in time", self._link)

    # --- Owner ---

    def upgraded(self) -> None:
        self._fleet.record.write(Upgraded(self.name, self._attempt))

    def refused(self, status: int) -> None:
        self._refused = True
        self._fleet.record.write(Refused(self.name, self._attempt, status))

    def message(self, data: bytes) -> None:
        message = _decode(data)
        if message.type == "heartbeat":
            self._answer(message.seq)
        elif message.type == "welcome" and message.connection is not None:
            self._fleet.record.write(Welcomed(self.name, self._attempt, message.connection))
            self._connection = message.connection
            now = time.monotonic()
            self._fleet.opened(self, now - self._opened_at)
            self._opened_at = self._beaten_at = now
            self.outbox.put("socket.opened", attempt=self._attempt, connection_id=message.connection)
            self._fleet.senders.due(self.outbox)
        elif message.type == "go_away":
            self._hint_ms = message.retry_after_ms

    def _answer(self, seq: int | None) -> None:
        fleet, now, wall = self._fleet, time.monotonic(), time.time() * 1000
        fleet.longest_silence = max(fleet.longest_silence, now - self._beaten_at)
        self._beaten_at = now
        if self._link is not None and not fleet.is_mute:
            self._link.send(f'{{"type":"pong","seq":{seq},"received":{wall:.3f},"sent":{wall:.3f}}}'.encode())

    def closed(self, code: int | None) -> None:
        if self._connection is None and not self._refused:
            self._refused = True
            self._fleet.record.write(Refused(self.name, self._attempt, code or 1005))
        link = self._link
        self._over("closed by the service", code)
        if link is not None:
            link.vanish()

    def lost(self, error: Exception | None) -> None:
        self._over("lost" if error is None else "broken", None)

    # --- the end of a connection ---

    def leave(self, way: str, *, for_good: bool = False) -> None:
        """Leave in one of ``WAYS``; unless it is for good, it comes back after a backoff."""
        self._stays_away = for_good
        if for_good and self._wait is not None:
            self._wait.cancel()
        link = self._link
        if link is not None:
            self._leave(way, link)
        if way == "page_closed":
            self._fleet.senders.due(self.outbox)
            self._page += 1
            self.outbox = Outbox(self.name, f"{self.name}.p{self._page}")

    def _leave(self, way: str, link: Link) -> None:
        self._over(way, _CODES.get(way))  # before it is done: from now on the client does not have it
        if way in _CODES:
            link.close(_CODES[way])
        elif way == "reset":
            link.reset()
        else:
            link.vanish()

    def _over(self, how: str, code: int | None) -> None:
        """The client has no connection any more; if it wants one again, wait for it."""
        fleet = self._fleet
        fleet.record.write(Ended(self.name, self._attempt, how, code))
        self.outbox.put("socket.closed" if self.is_open else "attempt.failed", attempt=self._attempt, code=code)
        now = time.monotonic()
        if self.is_open:
            fleet.closed(self, by_itself=how in WAYS)
            self._lost_at = now
            ending = BY_CODE.get(code or 0)
            cause = how if how in _CODES else str(ending.reason) if ending is not None else "network_offline"
            self._previous = (self._connection, code, code is not None, cause)
            if now - self._opened_at >= fleet.habits.stable:
                self._failures = 0
        self._link = None
        self._connection = None
        if self._stays_away or (how not in WAYS and code is not None and not is_retryable(code)):
            return
        delay = self._backoff()
        self._failures += 1
        self.outbox.put("backoff.scheduled", attempt=self._attempt, delay_ms=delay * 1000)
        self._wait = fleet.loop.call_later(delay, fleet.spawn, self)

    def _backoff(self) -> float:
        """The delay of the browser client: exponential, with a jitter that survives the cap; a hint wins."""
        habits, hint = self._fleet.habits, self._hint_ms
        self._hint_ms = None
        if hint is not None:
            return hint / 1000
        raw = habits.backoff_base * habits.backoff_factor ** min(self._failures, 40)
        jitter = self._fleet.random.uniform(-habits.backoff_jitter, habits.backoff_jitter)
        return max(0.0, min(raw, habits.backoff_cap - habits.backoff_jitter) + jitter)


class Fleet:
    """Clients of one service. ``async with`` starts their telemetry and, at the end, drops what is still open."""

    def __init__(
        self,
        record: Record,
        port: int,
        clients: int,
        *,
        host: str = "127.0.0.1",
        name: str = "c",
        habits: Habits = Habits(),
        seed: int = 0,
    ) -> None:
        """``name`` begins the ids of its clients; two fleets of one service need two."""
        self.record = record
        self.host = host
        self.port = port
        self.habits = habits
        self.random = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.connecting = asyncio.Semaphore(CONNECTING)
        self.is_mute = False
        """Whether heartbeats stay unanswered."""
        self.drops = 0
        """Connections that ended without the fleet's own doing."""
        self.welcomes = 0
        """Handshakes that were answered."""
        self.longest_silence = 0.0
        """Most seconds between two heartbeats of a connection; set it back at will."""
        self.slowest_welcome = 0.0
        """Most seconds from an attempt's beginning to its welcome; set it back at will."""
        self.senders = Senders(record, host, port, source="127.0.0.1", number=habits.senders)
        self.clients = [
            Client(self, f"{name}{number}", f"127.0.0.{1 + number // CLIENTS_PER_ADDRESS}") for number in range(clients)
        ]
        self._open: dict[Client, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._talking = True

    async def __aenter__(self) -> Self:
        self.senders.start()
        self._start(self._talk())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self.clients:
            client.leave("vanished", for_good=True)
        for task in list(self._tasks):
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        results += await self.senders.stop()
        await asyncio.sleep(0)  # the transports close in the next turn
        for result in [*self._failures, *results]:
            if isinstance(result, Exception):  # a client that stopped unnoticed would have proved nothing
                raise result

    # --- what it does ---

    async def connect(self, *, per_second: float = 100_000.0, patience: float = 60.0) -> None:
        """Let every client connect and wait until all have."""
        began = time.monotonic()
        for number, client in enumerate(self.clients):
            ahead = began + number / per_second - time.monotonic()
            if ahead > 0.005:
                await asyncio.sleep(ahead)
            self.spawn(client)
        await self.until_all_open(patience)

    async def until_all_open(self, patience: float) -> None:
        """Wait until every client has a connection.

        Raises:
            AssertionError: after ``patience`` seconds some have none.
        """
        until = time.monotonic() + patience
        while len(self._open) < len(self.clients):
            assert time.monotonic() < until, (
                f"{len(self.clients) - len(self._open)} of {len(self.clients)} clients had no connection "
                f"after {patience:.0f} s"
            )
            await asyncio.sleep(0.02)

    @property
    def open_connections(self) -> int:
        """How many clients have been welcomed and not lost it."""
        return len(self._open)

    def churn(self, per_minute: float, *, ways: Sequence[str] = WAYS) -> asyncio.Task[None]:
        """From now on this share of the clients leaves each minute, in one of ``ways``, and comes back; cancel the task
        to end it."""
        return self._start(self._churn(per_minute, ways))

    @asynccontextmanager
    async def quiet(self, patience: float = 30.0) -> AsyncIterator[None]:
        """No telemetry inside; what was said before is acknowledged.

        Raises:
            AssertionError: after ``patience`` seconds it was not.
        """
        self._talking = False
        try:
            until = time.monotonic() + patience
            while not self.senders.idle:
                assert time.monotonic() < until, f"telemetry was not acknowledged in {patience:.0f} s"
                await asyncio.sleep(0.02)
            yield
        finally:
            self._talking = True

    async def retire(self, patience: float = 30.0) -> None:
        """Every client leaves for good, and nothing is said any more; what was said is acknowledged.

        Raises:
            AssertionError: after ``patience`` seconds it was not.
        """
        for client in self.clients:
            client.leave("normal", for_good=True)
        async with self.quiet(patience):
            pass
        self._talking = False

    # --- for its clients ---

    def spawn(self, client: Client) -> None:
        """Let a client make an attempt."""
        self._start(client.connect())

    def opened(self, client: Client, seconds: float) -> None:
        """A client was welcomed, so many seconds after its attempt began."""
        self._open[client] = None
        self.welcomes += 1
        self.slowest_welcome = max(self.slowest_welcome, seconds)

    def closed(self, client: Client, *, by_itself: bool) -> None:
        """A client has lost its connection, or left it."""
        del self._open[client]
        self.drops += not by_itself

    # --- in the background ---

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    async def _talk(self) -> None:
        """Each page says something once in a ``telemetry_interval``, one page after the other."""
        said = 0.0
        for client in cycle(self.clients):
            if said >= 1:
                said -= 1
            else:
                await asyncio.sleep(_TALK_SECONDS)
                said += len(self.clients) * _TALK_SECONDS / self.habits.telemetry_interval
            if self._talking:
                client.outbox.put("heartbeat.summarised", window_ms=1000, count=1, missed=0)
                self.senders.due(client.outbox)

    async def _churn(self, per_minute: float, ways: Sequence[str]) -> None:
        due = 0.0
        while True:
            await asyncio.sleep(_CHURN_SECONDS)
            due += per_minute * len(self.clients) * _CHURN_SECONDS / 60
            leaving = min(int(due), len(self._open))
            due -= leaving
            for client in self.random.sample(list(self._open), leaving):
                client.leave(self.random.choice(ways))
