"""All open connections of one process: heartbeats, broadcasts, and how they end.

Nothing here runs per message and connection at once: a broadcast is one prepared frame written to every socket, a
heartbeat one frame for a slot of the wheel, and every deadline (probe, close, token) waits in a queue that the wheel's
tick looks at.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from pulsetrail.close_codes import Reason, code_for
from pulsetrail.lifecycle import Limits
from pulsetrail_service.connections import Connection
from pulsetrail_service.frames import message_frame
from pulsetrail_service.heartbeat import Wheel
from pulsetrail_service.protocol import WebSocket
from pulsetrail_service.recorder import Recorder
from pulsetrail_service.watchers import Watchers

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that a peer has to answer our close frame before its socket is dropped."""

logger = logging.getLogger("pulsetrail.gateway")


class Hub:
    """The open connections; for the event loop's thread only."""

    def __init__(
        self,
        recorder: Recorder,
        *,
        limits: Limits,
        heartbeat_interval: float,
        reconnect_spread: float,
        clock: Callable[[], float],
        verify_token: Callable[[str], float | None] | None = None,
    ) -> None:
        """``reconnect_spread`` is the time in seconds over which clients that are sent away are told to come back;
        ``verify_token`` gives the time (seconds since 1970) until which a renewed token is good; it raises
        ``PermissionError`` for one that is not."""
        self.recorder = recorder
        self.limits = limits
        self._reconnect_spread = reconnect_spread
        self.clock = clock
        self.wall = recorder.wall
        self.watchers = Watchers(clock)
        self.wheel: Wheel[Connection] = Wheel(heartbeat_interval, self._beat, self._tick, clock)
        self.stream_position = 0
        """Position of the newest update that every open connection was sent."""
        self.broadcasts = self.broadcast_bytes = 0
        self.messages_ignored = 0
        self.draining = False
        self.per_prefix: Counter[str] = Counter()
        self._verify_token = verify_token
        self._open: dict[Connection, None] = {}
        self._snapshot: tuple[Connection, ...] | None = ()
        self._probes: deque[tuple[float, Connection]] = deque()
        self._closing: deque[tuple[float, WebSocket]] = deque()
        self._tokens: list[tuple[float, int, Connection]] = []
        self._token_of: dict[Connection, float] = {}
        self._order = 0
        self._ticked: list[Callable[[float], None]] = []
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        return len(self._open)

    def on_tick(self, callback: Callable[[float], None]) -> None:
        """Call ``callback`` with the time at each tick of the wheel."""
        self._ticked.append(callback)

    # --- coming and going ---

    def join(self, connection: Connection, token_expires: float | None) -> None:
        """An accepted connection begins to get heartbeats and broadcasts."""
        self._open[connection] = None
        self._snapshot = None
        self._empty.clear()
        self.per_prefix[connection.prefix] += 1
        self.watchers.connections += connection.watches
        connection.slot = self.wheel.join(connection)
        connection.broadcasts_before, connection.bytes_before = self.broadcasts, self.broadcast_bytes
        if token_expires is not None:
            self._expect_token(connection, token_expires)

    def greet(self, connection: Connection) -> None:
        """Send away at once who was accepted while the others were being sent away."""
        if self.draining:
            self.send_away(connection, Reason.SERVER_SHUTDOWN)
        elif connection.node_epoch != self.recorder.epoch:
            self.send_away(connection, Reason.FORCED_RECONNECT)

    def send_away(self, connection: Connection, reason: Reason) -> None:
        """Close a connection with a hint of when to come back, drawn for it alone."""
        hint = int(random.uniform(0, self._reconnect_spread) * 1000)  # noqa: S311 - no secret
        connection.end(reason, retry_after_ms=hint)

    def send_all_away(self, reason: Reason) -> None:
        """``send_away`` for every open connection."""
        for connection in list(self._open):
            self.send_away(connection, reason)

    def end(self, connection: Connection, reason: Reason, detail: str | None = None, code: int | None = None) -> None:
        """Close a connection for a reason of the server's; ``lost`` follows when its socket is gone."""
        if connection.socket.end(reason, code_for(reason) if code is None else code, detail):
            self.wheel.leave(connection, connection.slot)
            self.expect_end(connection.socket)

    def expect_end(self, socket: WebSocket) -> None:
        """Drop a socket whose close frame is sent, if its peer does not answer in time."""
        self._closing.append((self.clock() + CLOSE_TIMEOUT, socket))

    def lost(self, connection: Connection) -> None:
        """The socket is gone: put the end on record."""
        if connection not in self._open:
            return
        del self._open[connection]
        self._snapshot = None
        self._token_of.pop(connection, None)
        self.wheel.leave(connection, connection.slot)
        self.watchers.connections -= connection.watches
        self.per_prefix[connection.prefix] -= 1
        if not self.per_prefix[connection.prefix]:
            del self.per_prefix[connection.prefix]
        lifecycle, socket = connection.lifecycle, connection.socket
        evidence = socket.evidence(
            layers=lifecycle.layers,
            behind_proxy=connection.behind_proxy,
            messages_in=connection.messages_in,
            messages_out=connection.messages_out + self.broadcasts - connection.broadcasts_before,
            bytes_out=connection.bytes_out + self.broadcast_bytes - connection.bytes_before,
            misses=lifecycle.misses,
            rtt_us=lifecycle.recent_us,
        )
        connection.record(
            lifecycle.ended(
                evidence,
                socket.decision,
                self.clock(),
                self.wall(),
                draining=self.draining,
                detail=socket.close_detail,
            )
        )
        if not self._open:
            self._empty.set()

    # --- heartbeats ---

    def _beat(self, members: list[Connection], seq: int, now: float) -> None:
        at = self.wall()
        frame = message_frame(
            {"type": "heartbeat", "seq": seq, "time": at // 1000, "stream_position": self.stream_position}
        )
        for connection in members:
            if connection.socket.is_gone:
                continue
            lifecycle = connection.lifecycle
            missed, idle = lifecycle.beat(seq, now, at)
            if idle:
                self.end(connection, Reason.IDLE_TIMEOUT, f"no answer for {self.limits.idle_timeout:g} s")
                continue
            connection.write(frame)
            if missed is not None:
                connection.ping()
                self._probes.append((now + self.limits.probe_wait, connection))
            if now >= lifecycle.window_ends:
                connection.record(lifecycle.latency(now, at))

    def _tick(self, now: float) -> None:
        for callback in self._ticked:
            callback(now)
        while self._probes and self._probes[0][0] <= now:
            self._probe(self._probes.popleft()[1], now)
        while self._closing and self._closing[0][0] <= now:
            socket = self._closing.popleft()[1]
            if not socket.disconnected:
                socket.abort()
        while self._tokens and self._tokens[0][0] <= self.wall() / 1e6:
            expires, _, connection = heapq.heappop(self._tokens)
            if self._token_of.get(connection) == expires:
                self.end(connection, Reason.TOKEN_EXPIRED, "the token was not renewed in time")

    def _probe(self, connection: Connection, now: float) -> None:
        if connection.socket.is_gone:
            return
        drafts, dead = connection.lifecycle.probed(connection.socket.tcp_info(), now)
        connection.record(drafts)
        if dead:
            self.end(connection, Reason.SERVER_HEARTBEAT_TIMEOUT, "the kernel shows that nothing arrives")

    # --- tokens ---

    def _expect_token(self, connection: Connection, expires: float) -> None:
        self._order += 1
        self._token_of[connection] = expires
        heapq.heappush(self._tokens, (expires, self._order, connection))

    def renew_token(self, connection: Connection, token: str) -> None:
        """A client sent a new token; a bad one ends the connection."""
        if self._verify_token is None:
            return
        try:
            expires = self._verify_token(token)
        except PermissionError as error:
            self.end(connection, Reason.UNAUTHORIZED, str(error))
            return
        if expires is None:
            self._token_of.pop(connection, None)
        else:
            self._expect_token(connection, expires)

    # --- broadcast ---

    def broadcast(self, frame: bytes, count: int, position: int) -> None:
        """Write a frame of ``count`` updates, the last at ``position``, to every open connection."""
        if self._snapshot is None:
            self._snapshot = tuple(self._open)
        for connection in self._snapshot:
            socket = connection.socket
            if not socket.close_sent and not socket.disconnected:
                socket.transport.write(frame)
        self.broadcasts += count
        self.broadcast_bytes += len(frame)
        self.stream_position = position

    def tell(self, frame: bytes) -> None:
        """Write a message that is no update to every open connection."""
        for connection in tuple(self._open):
            connection.write(frame)

    # --- the end of all ---

    async def drain(self, seconds: float) -> int:
        """Close every connection over ``seconds`` because the server stops; returns how many there were."""
        self.draining = True
        connections = list(self._open)
        random.shuffle(connections)
        began = self.clock()
        for number, connection in enumerate(connections):
            due = began + seconds * number / len(connections)
            if due > self.clock():
                await asyncio.sleep(due - self.clock())
            self.send_away(connection, Reason.SERVER_SHUTDOWN)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self._open):
                connection.socket.abort()
            await asyncio.sleep(0)
            for connection in list(self._open):
                self.lost(connection)  # aborted, and still not told of its loss: its end is known all the same
        return len(connections)
