"""The load generator's Python side: starts ``load/load.c`` and speaks with it.

It runs in processes of its own, so that what it costs can be told apart from what the servers cost, and it reports its
own CPU: a figure that only shows where the generator ends is none.
"""

from __future__ import annotations

import asyncio
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from bench.install import program
from bench.processes import die_with_parent
from bench.stage import BenchError

SATURATED = 0.9
"""Share of a core above which a generator may be what limits."""

IDLE_SERVER = 0.85
"""Share of a core below which a server of one thread is not what limits."""

ANSWER_SECONDS = 180.0

_GENTLE = 200
"""Connections under way at a time where it is not the connecting that is measured."""

_SPARE_FILES = 64


class Program:
    """A process that takes commands as lines and answers in JSON lines, each with an ``event`` and a ``group``."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name
        self._early: list[dict[str, Any]] = []

    @classmethod
    async def start(cls, path: Path) -> Program:
        process = await asyncio.create_subprocess_exec(
            path, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
        )
        return cls(process, path.name)

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, command: str) -> None:
        """Send a command."""
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        self._process.stdin.write(f"{command}\n".encode())

    async def answer(self, event: str, group: int = 0) -> dict[str, Any]:
        """The next answer of a kind; others are kept.

        Raises:
            BenchError: it ended, or did not answer in time.
        """

        def wanted(said: dict[str, Any]) -> bool:
            return bool(said["event"] == event and said.get("group", group) == group)

        for kept in self._early:
            if wanted(kept):
                self._early.remove(kept)
                return kept
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while line := await self._process.stdout.readline():
                    said: dict[str, Any] = json.loads(line)
                    if wanted(said):
                        return said
                    self._early.append(said)
        except TimeoutError:
            raise BenchError(f"{self._name} waited {ANSWER_SECONDS:.0f} s for {event!r}: something hangs.") from None
        raise BenchError(f"{self._name} ended before it said {event!r}.")

    async def stop(self) -> None:
        """End it."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class Opened(NamedTuple):
    """How connecting went; times in seconds, ``began`` and ``ended`` on the monotonic clock."""

    clients: int
    failed: int
    why: str
    began: float
    ended: float
    p50: float
    p99: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Received(NamedTuple):
    """What arrived of a broadcast. ``began`` is when the first message was published, ``ended`` when the last one
    arrived, the percentiles are those of the time between, over all messages of all connections; in seconds."""

    messages: int
    payload_bytes: int
    gone: int
    began: float
    ended: float
    p50: float
    p99: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


class Usage(NamedTuple):
    """A generator's own figures so far: CPU seconds of its busiest process, heartbeats answered."""

    cpu: float
    heartbeats: int


class Trips(NamedTuple):
    """Round trips of probes in seconds, each from the moment at which it was due."""

    p50: float
    p99: float
    worst: float


class Clients:
    """Connections to one server, in as many processes as the limit of open files asks for; groups are small numbers."""

    def __init__(self, programs: list[Program]) -> None:
        self._programs = programs

    @classmethod
    async def start(cls, most: int, say: Callable[[str], None]) -> Clients:
        """Processes for up to ``most`` connections."""
        each = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES
        path = program("load", say)
        return cls([await Program.start(path) for _ in range(-(-most // each))])

    async def open(
        self,
        address: tuple[str, int, str],
        count: int,
        *,
        window: int,
        welcome: bool,
        group: int = 1,
        receive_buffer: int = 0,
    ) -> Opened:
        """Open ``count`` connections to (host, port, path), ``window`` under way at most. With ``welcome``, a
        connection is open when its first message is there. ``receive_buffer`` in bytes, 0 for the kernel's choice."""
        host, port, path = address
        parts = _shares(count, len(self._programs))
        windows = _shares(window, len(self._programs))
        for index, (one, part) in enumerate(zip(self._programs, parts, strict=True)):
            # One address has ports enough for one process.
            first, sources = (2 + index, 1) if index else (1, 0)
            one.tell(
                f"open {group} {part} {windows[index]} {first} {sources} {receive_buffer} {welcome:d} "
                f"{host} {port} {path}"
            )
        said = [await one.answer("opened", group) for one in self._programs]
        return Opened(
            clients=sum(one["opened"] for one in said),
            failed=sum(one["failed"] for one in said),
            why=next((one["why"] for one in said if one["why"]), ""),
            began=min(one["began"] for one in said) / 1e6,
            ended=max(one["ended"] for one in said) / 1e6,
            p50=max(one["p50"] for one in said) / 1e6,
            p99=max(one["p99"] for one in said) / 1e6,
        )

    async def open_all(
        self, address: tuple[str, int, str], count: int, *, welcome: bool, group: int = 1, receive_buffer: int = 0
    ) -> None:
        """``open`` where how long it takes does not matter.

        Raises:
            BenchError: some could not connect.
        """
        opened = await self.open(
            address, count, window=_GENTLE, welcome=welcome, group=group, receive_buffer=receive_buffer
        )
        if opened.failed:
            raise BenchError(f"{opened.failed} of {count} clients could not connect: {opened.why}.")

    async def expect(self, messages: int, group: int = 1) -> None:
        """Count from now on; ``received`` tells when every connection has so many messages."""
        for one in self._programs:
            one.tell(f"expect {group} {messages}")
        for one in self._programs:
            await one.answer("expecting", group)

    async def received(self, group: int = 1) -> Received:
        """Wait for the last message."""
        said = [await one.answer("received", group) for one in self._programs]
        return Received(
            messages=sum(one["messages"] for one in said),
            payload_bytes=sum(one["bytes"] for one in said),
            gone=sum(one["gone"] for one in said),
            began=min(one["began"] for one in said) / 1e6,
            ended=max(one["ended"] for one in said) / 1e6,
            p50=max(one["p50"] for one in said) / 1e6,
            p99=max(one["p99"] for one in said) / 1e6,
        )

    async def stop_reading(self, group: int) -> None:
        """Never read again."""
        for one in self._programs:
            one.tell(f"read {group} 0")
        for one in self._programs:
            await one.answer("reading", group)

    async def probe(self, count: int, interval: float, group: int = 1) -> Trips:
        """Send ``count`` probes, one every ``interval`` seconds, over the group's connections in turn, and wait for the
        answers."""
        self._programs[0].tell(f"probe {group} {count} {round(interval * 1e6)}")
        said = await self._programs[0].answer("probed", group)
        return Trips(said["p50"] / 1e6, said["p99"] / 1e6, said["max"] / 1e6)

    async def close(self, group: int = 1) -> None:
        """Reset the connections of a group."""
        for one in self._programs:
            one.tell(f"close {group}")
        for one in self._programs:
            await one.answer("closed", group)

    async def usage(self) -> Usage:
        """What the busiest process has cost so far, and the heartbeats that all have answered."""
        for one in self._programs:
            one.tell("usage 0")
        said = [await one.answer("usage") for one in self._programs]
        return Usage(max(one["cpu"] for one in said), sum(one["heartbeats"] for one in said))

    async def stop(self) -> None:
        """End the processes, and with them the connections."""
        for one in self._programs:
            await one.stop()


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (index < total % parts) for index in range(parts)]


def bottleneck(generator: float, server: float, seconds: float) -> str | None:
    """Why a figure shows the generator's limit instead of the server's, if it does; from the CPU seconds that the
    busiest generator process and the server spent in so many seconds."""
    if generator / seconds >= SATURATED and server / seconds < IDLE_SERVER:
        return (
            f"the load generator used {generator / seconds:.0%} of a core and the server {server / seconds:.0%}: "
            "the generator was the bottleneck"
        )
    return None
