"""The whole service as a user starts it, and what an SRE would ask it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from pulsetrail.embedded import running_url

FAST = {
    "PULSETRAIL_HEARTBEAT_INTERVAL": "1",
    "PULSETRAIL_IDLE_TIMEOUT": "5",
    "PULSETRAIL_SEND_BUFFER_BYTES": "65536",
    "PULSETRAIL_NODE_LEASE": "2",
    "PULSETRAIL_DRAIN_SECONDS": "0.5",
    "PULSETRAIL_LIVE_FIGURES_INTERVAL": "0",
}
"""Heartbeats of a second instead of thirty: the same rules, sooner."""

PULSETRAIL = (sys.executable, "-m", "pulsetrail.cli")


class Service:
    """``pulsetrail serve`` as a process group of its own, so that all of it can be killed at once."""

    def __init__(self, data_dir: Path, *arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> None:
        """``prefix`` is put before the command, such as ``ip netns exec NAME``; the service then listens elsewhere."""
        self.data_dir = data_dir
        self._prefix = prefix
        self.host = environment.get("PULSETRAIL_HOST", "127.0.0.1")
        self.arguments = arguments
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("PULSETRAIL_", "DATABASE_URL"))
            },
            **FAST,
            "PULSETRAIL_DATA_DIR": str(data_dir),
            **environment,
        }
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._told_to_end = False
        self._output = data_dir.parent / f"{data_dir.name}.output"

    @property
    def output(self) -> str:
        """Everything it has printed."""
        return self._output.read_text(errors="replace")

    @property
    def ws(self) -> str:
        return f"ws://{self.host}:{self.port}/ws/updates"

    @property
    def http(self) -> str:
        return f"http://{self.host}:{self.port}"

    def start(self, timeout: float = 90.0) -> None:
        """Start it and wait until it is ready."""
        self._told_to_end = False
        before = self._output.stat().st_size if self._output.exists() else 0
        with self._output.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._prefix, *PULSETRAIL, "serve", "--port", str(self.port), *self.arguments],
                env=self.environment,
                cwd=self.data_dir.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise AssertionError(f"serve ended with {self._process.returncode}:\n{self.output[-4000:]}")
            if not self.port:
                found = re.search(r"ws://[^:/]+:(\d+)/ws/updates", self.output[before:])
                self.port = int(found[1]) if found else 0
            if self.port and self._is_ready():
                return
            time.sleep(0.05)
        raise AssertionError(f"serve was not ready in {timeout} s:\n{self.output[-4000:]}")

    def _is_ready(self) -> bool:
        if self._prefix:
            ask = "import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)"
            command = [*self._prefix, sys.executable, "-c", ask, f"{self.http}/readyz"]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.http}/readyz", timeout=1).status_code == 200
        return False

    def stop(self) -> int:
        """End it in order; returns its exit code."""
        self.terminate()
        assert self._process is not None
        return self._process.wait(60)

    def terminate(self) -> None:
        """Tell it to end in order."""
        os.kill(self.pid, signal.SIGTERM)
        self._told_to_end = True

    @property
    def pid(self) -> int:
        """Its first process, the supervisor."""
        assert self._process is not None
        return self._process.pid

    def has_ended(self, patience: float) -> bool:
        """Whether its supervisor has ended, or does within ``patience`` seconds."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        return self._process.returncode is not None

    @property
    def is_stopping(self) -> bool:
        """Whether it was told to end, and has not yet."""
        assert self._process is not None
        return self._told_to_end and self._process.poll() is None

    def worker_pid(self, name: str) -> int:
        """The process that said last that it is this worker, such as ``gateway-0``."""
        return int(json.loads((self.data_dir / "run" / f"{name}.json").read_text())["pid"])

    def kill_group(self) -> None:
        """``kill -9`` of every process of it but the embedded Postgres, which has a session of its own."""
        assert self._process is not None
        os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(30)

    @contextlib.contextmanager
    def frozen_postgres(self) -> Iterator[None]:
        """The embedded Postgres is there and answers nobody, until the end of the block or its own."""
        postmaster = self.postgres_pid()
        frozen = [postmaster, *(pid for pid, parent, _ in _all_processes() if parent == postmaster)]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in reversed(frozen):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def kill_everything(self) -> None:
        """``kill -9`` of every process of it, the embedded Postgres included, at once."""
        assert self._process is not None
        for pid in sorted(self.processes(), reverse=True):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)

    def processes(self) -> set[int]:
        """Every process whose files are in the data directory, or that comes from ours."""
        assert self._process is not None
        found = {self._process.pid}
        while True:
            more = {pid for pid, parent, line in _all_processes() if parent in found or str(self.data_dir) in line}
            if more <= found:
                return found
            found |= more

    @property
    def database_url(self) -> str:
        """Where its log is; of the embedded server, while that runs."""
        url = self.environment.get("DATABASE_URL") or running_url(self.data_dir / "postgres")
        assert url is not None, "the embedded Postgres does not run"
        return url

    def postgres_pid(self) -> int:
        """The embedded server's first process."""
        return int((self.data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Another command against the same data directory."""
        done = subprocess.run(
            [*PULSETRAIL, *arguments],
            env=self.environment,
            cwd=self.data_dir.parent,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str) -> Any:
        """What a command prints with ``--json``."""
        return json.loads(self.run(*arguments, "--json").stdout)


def _all_processes() -> Iterator[tuple[int, int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                yield int(entry.name), parent, line


STOCK_CLIENT = """
import asyncio, sys
from websockets.asyncio.client import connect

async def main():
    async with connect(sys.argv[1], ping_interval=None) as client:
        async for message in client:
            print(message, flush=True)
            if "heartbeat" in message:
                await client.send('{"type":"pong"}')

asyncio.run(main())
"""
"""Python websockets as a program: prints what it gets, answers heartbeats."""


class StockClient:
    """A client program that nobody here wrote, behind a script that prints what it gets as lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    async def start(cls, *command: str, cwd: Path | None = None) -> StockClient:
        return cls(
            await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=cwd, limit=1 << 20
            )
        )

    async def receive(self, kind: str, timeout: float = 30.0) -> dict[str, Any]:  # noqa: ASYNC109 - a test's patience
        """The next message of a type; others are passed over."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout):
            while line := await self.process.stdout.readline():
                message: dict[str, Any] = json.loads(line)
                if message["type"] == kind:
                    return message
        raise AssertionError(f"the client ended before it got {kind}")

    async def leave(self) -> None:
        """Let it close its connection and end."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await asyncio.wait_for(self.process.wait(), 20)

    async def kill(self) -> None:
        """Make sure that it is gone, and its pipes with it."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        await self.process.communicate()
