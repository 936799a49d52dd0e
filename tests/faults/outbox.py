"""A page's telemetry: events that keep their sequence, and senders that repeat a batch until it is acknowledged."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
from records import BatchAcknowledged, BatchAttempted, BatchRefused, Record

BATCH_EVENTS: Final = 50
ANSWER_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.25

_encode: Final = msgspec.json.Encoder().encode


class Answer(msgspec.Struct):
    """The body of a 202."""

    accepted: int


_decode: Final = msgspec.json.Decoder(Answer).decode


class Outbox:
    """What a page has to say. ``(page, seq)`` and the times are fixed when an event happens and never change."""

    __slots__ = ("_events", "client", "in_flight", "page", "seq")

    def __init__(self, client: str, page: str) -> None:
        self.client = client
        self.page = page
        self.seq = 0
        self.in_flight = False
        self._events: deque[dict[str, Any]] = deque()

    def put(self, event_type: str, **fields: Any) -> None:
        """Something happened."""
        self.seq += 1
        wall = time.time() * 1000
        self._events.append({"seq": self.seq, "type": event_type, "wall": wall, "mono": wall % 1e9, **fields})

    def __len__(self) -> int:
        return len(self._events)

    def batch(self) -> tuple[int, int, bytes]:
        """The next batch, or the last one again: its first and last sequence, and its bytes."""
        events = [self._events[index] for index in range(min(BATCH_EVENTS, len(self._events)))]
        wall = time.time() * 1000
        body = {
            "schema": 1,
            "page_id": self.page,
            "client_id": self.client,
            "sdk": "faults/1",
            "sent_wall": wall,
            "clock": {"offset_ms": 0, "error_ms": 1, "samples": 1},
            "events": events,
        }
        return events[0]["seq"], events[-1]["seq"], _encode(body)

    def acknowledged(self, last: int) -> None:
        """Everything up to ``last`` is the service's concern now."""
        while self._events and self._events[0]["seq"] <= last:
            self._events.popleft()


class Post:
    """One HTTP connection to the collector, kept open, opened again when it breaks."""

    def __init__(self, host: str, port: int, source: str) -> None:
        self._host = host
        self._port = port
        self._source = source
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, body: bytes) -> tuple[int, bytes]:
        """POST a batch: status and body of the answer.

        Raises:
            OSError, EOFError, TimeoutError: no answer came; nothing is known of the batch's fate.
        """
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._send(body)
        except BaseException:
            self.close()
            raise

    async def _send(self, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, local_addr=(self._source, 0))
        reader, writer = self._streams
        head = (
            f"POST /v1/telemetry HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(answer.split(b" ", 2)[1])
        length = int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return status, await reader.readexactly(length)

    def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


class Senders:
    """Takes outboxes that have something to say, one batch of each at a time."""

    def __init__(self, record: Record, host: str, port: int, *, source: str, number: int) -> None:
        self._record = record
        self._due: asyncio.Queue[Outbox] = asyncio.Queue()
        self._posts = [Post(host, port, source) for _ in range(number)]
        self._tasks: list[asyncio.Task[None]] = []
        self._unanswered = 0
        self._pausing: Callable[[float], float] = lambda seconds: random.uniform(0.5, 1.5) * seconds

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(self._work(post)) for post in self._posts]

    async def stop(self) -> list[BaseException | None]:
        """Leave what is not acknowledged unsent; how the senders ended."""
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        for post in self._posts:
            post.close()
        return ends

    def due(self, outbox: Outbox) -> None:
        """``outbox`` has something to say."""
        if not outbox.in_flight and len(outbox):
            outbox.in_flight = True
            self._unanswered += 1
            self._due.put_nowait(outbox)

    @property
    def idle(self) -> bool:
        """Whether everything that was said is acknowledged."""
        return self._unanswered == 0

    async def _work(self, post: Post) -> None:
        while True:
            outbox = await self._due.get()
            while len(outbox):
                if not await self._send(post, outbox):
                    await asyncio.sleep(self._pausing(RETRY_SECONDS))
            outbox.in_flight = False
            self._unanswered -= 1

    async def _send(self, post: Post, outbox: Outbox) -> bool:
        """Try one batch; whether it was acknowledged."""
        first, last, body = outbox.batch()
        self._record.write(BatchAttempted(outbox.page, first, last))
        with suppress(OSError, EOFError, TimeoutError):
            status, answer = await post.send(body)
            if status == 202 and _decode(answer).accepted == last - first + 1:
                self._record.write(BatchAcknowledged(outbox.page, first, last))
                outbox.acknowledged(last)
                return True
            self._record.write(BatchRefused(outbox.page, first, last, status))
        return False
