"""Lives of connections as events, for the tests of what is folded from them; and how to put them into a log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from pulsetrail.close_codes import Reason, initiator_of
from pulsetrail.events import (
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    Event,
    Evidence,
    HandshakeRejected,
    HeartbeatMissed,
    HeartbeatRecovered,
    LatencySampled,
    Layers,
    NodeStarted,
    Payload,
    Previous,
    encode_payload,
    now_us,
)
from pulsetrail.events import ConnectionStale as Stale
from pulsetrail.identity import client_ref, new_id
from pulsetrail.log import Batch, Log
from pulsetrail.projections import PROJECTIONS

KEY = bytes(32)
EPOCH = 1_790_000_000_000_000
SECOND = 1_000_000
T0 = 1_795_000_000 * SECOND
ENDS = (Reason.NORMAL, Reason.PEER_RESET, Reason.PAGE_CLOSED, Reason.IDLE_TIMEOUT, Reason.SERVER_SHUTDOWN)


class Life:
    """One connection, told event by event. Everything it makes is in ``events``, in order."""

    def __init__(
        self,
        client: str = "client",
        *,
        shard: int = 0,
        page: str = "page",
        node: str = "otter-0",
        epoch: int = EPOCH,
        opened_at: int = T0,
        seed: int | None = None,
    ) -> None:
        self._random = Random(seed) if seed is not None else None
        self.connection_id = self._id()
        self.ref = client_ref(KEY, client)
        self.shard, self.page, self.node, self.epoch, self.opened_at = shard, page, node, epoch, opened_at
        self.seq = 0
        self.account_seq = self._random.randrange(1 << 40) if self._random else new_id().int & 0xFFFFFFFF
        self.events: list[Event] = []

    def _id(self) -> UUID:
        return UUID(int=self._random.getrandbits(128)) if self._random else new_id()

    def server(self, event_type: str, after: float, payload: Payload, *, numbered: bool = True, **fields: Any) -> Event:
        if numbered:
            self.seq += 1
        return self._add(
            event_type,
            after,
            encode_payload(payload),
            **{
                "source": "gateway",
                "node_id": self.node,
                "node_epoch": self.epoch,
                "connection_seq": self.seq if numbered else None,
                **fields,
            },
        )

    def account(self, event_type: str, after: float, **payload: Any) -> Event:
        self.account_seq += 1
        return self._add(event_type, after, encode_payload({"seq": self.account_seq, **payload}), source="client")

    def _add(self, event_type: str, after: float, payload: bytes, **fields: Any) -> Event:
        at = self.opened_at + int(after * SECOND)
        event = Event(
            event_id=self._id(),
            event_type=event_type,
            schema_version=1,
            occurred_at=at,
            received_at=at,
            shard=self.shard,
            connection_id=self.connection_id,
            client_ref=self.ref,
            page_id=self.page,
            payload=payload,
            **fields,
        )
        self.events.append(event)
        return event

    def open(self, *, previous: Previous | None = None, release: str = "1.0", browser: str = "firefox") -> Life:
        self.server("connection.opened", 0, ConnectionOpened(release=release, browser=browser, previous=previous))
        return self

    def miss(self, after: float, misses: int = 1) -> Life:
        layers = Layers(kernel=True, ping=misses == 1)
        self.server(
            "heartbeat.missed",
            after,
            HeartbeatMissed(heartbeat_seq=misses, misses=misses, layers=layers, silent_ms=int(after * 1000)),
        )
        return self

    def recover(self, after: float) -> Life:
        self.server("heartbeat.recovered", after, HeartbeatRecovered(misses=1, silent_ms=5))
        return self

    def stale(self, after: float) -> Life:
        self.server("connection.stale", after, Stale(misses=2, layers=Layers(), silent_ms=60_000, dead_path=False))
        return self

    def sample(self, after: float, *, least: int = 900, offset: int | None = 4) -> Life:
        buckets = [0] * 13
        buckets[0], buckets[12] = 3, 1
        self.server(
            "latency.sampled",
            after,
            LatencySampled(
                window_ms=300_000,
                count=4,
                min_us=least,
                max_us=40_000_000,
                sum_us=40_003_000,
                buckets=buckets,
                clock_offset_ms=offset,
            ),
            numbered=False,
        )
        return self

    def close(self, after: float, reason: Reason = Reason.NORMAL, **fields: Any) -> Life:
        self.server(
            "connection.closed",
            after,
            ConnectionClosed(
                initiator=initiator_of(reason),
                phase="open",
                was_clean=reason is Reason.NORMAL,
                duration_ms=int(after * 1000),
                classifier_version=1,
                client_code=1000 if reason is Reason.NORMAL else None,
                evidence=Evidence(messages_in=3, rtt_us=[1200, 900]),
            ),
            **{"reason": reason.value, "close_code": 1000 if reason is Reason.NORMAL else None, **fields},
        )
        return self

    def crash(self, after: float) -> Life:
        self.server(
            "connection.lost", after, ConnectionLost(opened_at=self.opened_at), reason=Reason.SERVER_CRASHED.value
        )
        return self


def random_lives(seed: int, count: int = 24, *, shard: int = 0) -> list[Life]:
    """Lives of a few clients with a few pages each; pages connect again and again, some lives do not end."""
    random = Random(seed)
    ends: dict[tuple[str, str], tuple[UUID, float]] = {}
    lives = []
    for number in range(count):
        client, page = f"client {random.randrange(5)}", f"page {random.randrange(3)}"
        start = T0 + number * 40 * SECOND
        node = f"otter-{random.randrange(2)}"
        life = Life(client, shard=shard, page=page, node=node, opened_at=start, seed=seed * 1000 + number)
        before = ends.get((client, page))
        named = before is not None and random.random() < 0.6
        life.account("attempt.started", -0.2)
        life.open(
            previous=Previous(connection=before[0], code=1006, attempt=2, backoff_ms=2100)
            if named and before
            else None,
            release=f"1.{random.randrange(2)}",
        )
        life.account("socket.opened", 0.1, elapsed_ms=80.5)
        after = 30.0
        for _ in range(random.randrange(3)):
            life.miss(after).sample(after + 1, least=random.randrange(500, 5000), offset=random.randrange(-9, 9))
            if random.random() < 0.5:
                life.stale(after + 2)
            if random.random() < 0.7:
                life.recover(after + 3)
            after += 30
        fate = random.random()
        if fate < 0.75:
            life.close(after, random.choice(ENDS))
        elif fate < 0.9:
            life.crash(after)
        if fate < 0.9:
            life.account("socket.closed", after + 0.1, code=1006, clean=False, cause="path_timeout")
            life.account("backoff.scheduled", after + 0.2, delay_ms=2000.4, attempt=1)
            life.account("backoff.scheduled", after + 2.2, delay_ms=3000.0, attempt=2)
            ends[client, page] = (life.connection_id, after)
        lives.append(life)
    return lives


def in_time(lives: Iterable[Life]) -> list[Event]:
    """The events of several lives as one stream, each life's own order kept."""
    return sorted((event for life in lives for event in life.events), key=lambda event: event.occurred_at)


def minted_in_turn(events: Iterable[Event]) -> list[Event]:
    """The events with ids as one process makes them that records them in this order."""
    return [msgspec.structs.replace(event, event_id=new_id()) for event in events]


def node_started(node: str, epoch: int, *, shard: int = 0) -> Event:
    return Event(
        event_id=new_id(),
        event_type="node.started",
        schema_version=1,
        source="gateway",
        occurred_at=now_us(),
        received_at=now_us(),
        shard=shard,
        node_id=node,
        node_epoch=epoch,
        payload=encode_payload(NodeStarted(version="1.0", pid=1)),
    )


def rejected(count: int, reason: str = "rate_limited", *, shard: int = 0) -> Event:
    return Event(
        event_id=new_id(),
        event_type="handshake.rejected",
        schema_version=1,
        source="gateway",
        occurred_at=T0,
        received_at=T0,
        shard=shard,
        node_id="otter-0",
        node_epoch=EPOCH,
        reason=reason,
        payload=encode_payload(HandshakeRejected(status=429, count=count)),
    )


async def append(log: Log, events: Sequence[Event], *, producer: UUID | None = None, first_seq: int = 1) -> UUID:
    """Append to the events' shards, each shard by one lane."""
    lane = producer or new_id()
    for shard in sorted({event.shard for event in events}):
        mine = [event for event in events if event.shard == shard]
        for start in range(0, len(mine), 500):
            part = mine[start : start + 500]
            appended = await log.append(Batch(shard, lane, first_seq + start, part, now_us()))
            assert appended.stored == len(part)
    return lane


async def all_rows(
    connection: Any, builds: dict[str, int] | None = None, *, without: frozenset[str] = frozenset()
) -> dict[str, list[dict[str, Any]]]:
    """Every row of every read model, by table; ``builds`` where it is not the first one."""
    found = {}
    for projection in PROJECTIONS.values():
        names = projection.names((builds or {}).get(projection.name, 1))
        for stem, table in names.items():
            rows = await connection.fetch(f"SELECT * FROM {table}")  # noqa: S608  # our own tables
            kept = [{name: value for name, value in row.items() if name not in without} for row in rows]
            found[stem] = sorted(kept, key=repr)
    return found


async def start_over(url: str) -> None:
    """Empty the read models and put the checkpoints before the first event."""
    connection = await asyncpg.connect(url)
    try:
        for projection in PROJECTIONS.values():
            for table in projection.names(1).values():
                await connection.execute(f"TRUNCATE {table}")
        await connection.execute("UPDATE projection_checkpoint SET position = 0, recorded_at = 'epoch'")
    finally:
        await connection.close()
