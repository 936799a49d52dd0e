"""A made-up history for the benchmarks of the log: what gateways and browsers say of many connections.

About eleven events a connection, four of them the gateway's, the others in two batches of telemetry; a tenth of the
connections misses a heartbeat, and every page connects three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from uuid import UUID

from pulsetrail.close_codes import Reason, initiator_of
from pulsetrail.events import (
    ConnectionClosed,
    ConnectionOpened,
    Event,
    Evidence,
    HeartbeatMissed,
    HeartbeatRecovered,
    LatencySampled,
    Layers,
    Payload,
    Previous,
    TcpInfo,
    encode_payload,
    now_us,
)
from pulsetrail.identity import client_ref, new_id, shard_of

SECOND = 1_000_000
_CONNECTIONS_A_PAGE = 3
_SIDE_BY_SIDE = 500
"""Pages that are open at a time: their events mingle."""
_ENDS = (Reason.NORMAL, Reason.PAGE_CLOSED, Reason.PEER_VANISHED, Reason.PEER_RESET, Reason.IDLE_TIMEOUT)
_TCP = TcpInfo(
    state=1,
    rtt_us=23_100,
    rttvar_us=4_100,
    retransmits=0,
    backoff=0,
    unacked=0,
    lost=0,
    total_retrans=1,
    last_data_sent_ms=12_003,
    last_data_recv_ms=11_980,
    last_ack_recv_ms=11_980,
)
_BROWSERS = ("chrome", "chrome", "firefox", "safari", "edge")


def history(events: int, *, key: bytes, shards: int, seed: int = 1, nodes: int = 4) -> Iterator[Event]:
    """So many events, in the order in which they are recorded."""
    random = Random(seed)
    pages = _pages(random, key, shards, nodes)
    open_now = [next(pages) for _ in range(_SIDE_BY_SIDE)]
    left = events
    while left:
        place = random.randrange(_SIDE_BY_SIDE)
        told = next(open_now[place], None)
        if told is None:
            open_now[place] = next(pages)
            continue
        yield from told[:left]
        left -= min(left, len(told))


def _pages(random: Random, key: bytes, shards: int, nodes: int) -> Iterator[Iterator[list[Event]]]:
    epoch = now_us()
    while True:
        page, reference = f"page-{random.getrandbits(64):016x}", client_ref(key, f"client-{random.getrandbits(48):x}")
        node = f"quiet-otter-{random.randrange(nodes)}"
        yield _Page(random, reference, shard_of(reference, shards), page, node, epoch).connections()


class _Page:
    """One page load, which connects again and again."""

    def __init__(self, random: Random, reference: UUID, shard: int, page: str, node: str, epoch: int) -> None:
        self._random = random
        self._reference, self._shard, self._page, self._node, self._epoch = reference, shard, page, node, epoch
        self._now = now_us() - 3600 * SECOND + random.randrange(1800 * SECOND)
        self._account_seq = 0
        self._seq = 0
        self._connection = new_id()
        self._context = (
            b',"offset_ms":12.5,"error_ms":8.25,"app":"shop","release":"2026.11.3","sdk":"pulsetrail/1.0",'
            b'"session_id":"%s","batch_id":"b-%d","ctx":{"visibility":"visible","network":"wifi"}}'
        )

    def connections(self) -> Iterator[list[Event]]:
        """What is recorded at a time."""
        for _ in range(_CONNECTIONS_A_PAGE):
            yield from self._connect()

    def _connect(self) -> Iterator[list[Event]]:
        random, previous = self._random, self._connection if self._seq else None
        self._connection, self._seq = new_id(), 0
        started = self._account("attempt.started", previous_connection_id=previous)
        hints = Previous(connection=previous, code=1006, clean=False, cause="path_timeout", attempt=1, backoff_ms=2100)
        yield self._gateway(
            "connection.opened",
            0.05,
            ConnectionOpened(
                address_prefix=f"198.51.{random.randrange(100)}.0/24",
                origin="https://shop.example",
                app="shop",
                release="2026.11.3",
                browser=random.choice(_BROWSERS),
                os="windows",
                device="desktop",
                previous=hints if previous else None,
            ),
        )
        yield [
            started,
            self._account("socket.opened", elapsed_ms=83.25, resumed=False),
            self._account("page.hidden"),
            self._account("page.visible", away_ms=12_033.5),
        ]
        if random.random() < 0.1:
            layers = Layers(kernel=True, ping=True)
            yield self._gateway(
                "heartbeat.missed",
                30,
                HeartbeatMissed(heartbeat_seq=3, misses=1, layers=layers, silent_ms=30_004, tcp=_TCP),
            )
            yield self._gateway("heartbeat.recovered", 2, HeartbeatRecovered(misses=1, silent_ms=32_100))
        for _ in range(2):
            yield self._gateway("latency.sampled", 300, self._latencies(), numbered=False)
        reason = random.choice(_ENDS)
        yield self._gateway(
            "connection.closed",
            1,
            ConnectionClosed(
                initiator=initiator_of(reason),
                phase="open",
                was_clean=reason is Reason.NORMAL,
                duration_ms=random.randrange(1_000, 700_000),
                classifier_version=1,
                evidence=Evidence(
                    first_actor="peer", eof=True, tcp=_TCP, messages_in=21, messages_out=40, rtt_us=[23_100, 22_400]
                ),
            ),
            reason=reason.value,
        )
        yield [
            self._account("heartbeat.summarised", window_ms=300_000, count=10, min_ms=22.5, max_ms=71.25, sum_ms=310.5),
            self._account("socket.closed", code=1006, clean=False, cause="path_timeout", uptime_ms=601_233.5),
            self._account("backoff.scheduled", attempt=1, base_ms=2000.0, jitter_ms=104.5, delay_ms=2104.5),
        ]

    def _latencies(self) -> LatencySampled:
        least = self._random.randrange(4_000, 40_000)
        return LatencySampled(
            window_ms=300_000,
            count=10,
            min_us=least,
            max_us=least + 60_000,
            sum_us=10 * least + 90_000,
            buckets=[0, 1, 6, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            clock_offset_ms=12,
        )

    def _gateway(
        self, event_type: str, after: float, payload: Payload, *, numbered: bool = True, reason: str | None = None
    ) -> list[Event]:
        self._now += int(after * SECOND)
        self._seq += numbered
        event = Event(
            event_id=new_id(),
            event_type=event_type,
            schema_version=1,
            source="gateway",
            occurred_at=self._now,
            received_at=self._now,
            shard=self._shard,
            connection_id=self._connection,
            connection_seq=self._seq if numbered else None,
            node_id=self._node,
            node_epoch=self._epoch,
            client_ref=self._reference,
            page_id=self._page,
            reason=reason,
            payload=encode_payload(payload),
        )
        return [event]

    def _account(self, event_type: str, **fields: object) -> Event:
        self._now += SECOND // 10
        self._account_seq += 1
        said = encode_payload(
            {"seq": self._account_seq, "wall": self._now / 1000, "mono": self._account_seq * 1000.5, **fields}
        )
        return Event(
            event_id=new_id(),
            event_type=event_type,
            schema_version=1,
            source="client",
            occurred_at=self._now,
            received_at=self._now + SECOND,
            shard=self._shard,
            connection_id=self._connection,
            client_ref=self._reference,
            page_id=self._page,
            payload=said[:-1] + self._context % (self._page.encode(), self._account_seq),
        )
