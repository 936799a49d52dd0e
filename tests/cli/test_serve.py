"""`pulsetrail serve` as a process: what it prints, what it survives, and that nothing of it is left."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil
import pytest
from websockets.sync.client import connect

from pulsetrail.cli import run

COMMAND = [sys.executable, "-P", "-m", "pulsetrail.cli"]
PATIENCE = 60.0


def eventually(holds: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true answer of ``holds``."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if answer := holds():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"not within {patience} s: {what}")


class Answer(NamedTuple):
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


class Instance:
    """One ``serve``, its output in files."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.data = folder / "data"
        bare = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
        self.environment = {**bare, "PULSETRAIL_DATA_DIR": str(self.data), "PULSETRAIL_DRAIN_SECONDS": "0.2"}
        self.said = folder / "said"
        self.lines = folder / "lines"
        with self.said.open("wb") as said, self.lines.open("wb") as lines:
            self.process = subprocess.Popen(
                [*COMMAND, "serve", "--port", "0", *arguments], env=self.environment, stdout=lines, stderr=said
            )

    def wait_until_ready(self) -> int:
        """Its port."""

        def port() -> int:
            found = re.search(r"ws://127\.0\.0\.1:(\d+)/ws/updates", self.said.read_text())
            assert self.process.poll() is None, self.said.read_text()
            return int(found[1]) if found else 0

        return int(eventually(port, "it serves"))

    def family(self) -> list[psutil.Process]:
        """Every process that belongs to it, its database included."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("PULSETRAIL_DATA_DIR") == str(self.data)
                if ours or str(self.data) in " ".join(process.cmdline()):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def worker(self, name: str) -> int:
        return int(json.loads((self.data / "run" / f"{name}.json").read_text())["pid"])

    def ask(self, *arguments: str) -> Answer:
        """Another command against the same data directory; in this process, which saves its start."""
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setenv("PULSETRAIL_DATA_DIR", str(self.data))
            patch.delenv("DATABASE_URL", raising=False)
            patch.delenv("PULSETRAIL_DATABASE_URL", raising=False)
            code = run(arguments)
        return Answer(code, out.getvalue(), err.getvalue())

    def kill_what_is_left(self) -> None:
        for process in self.family():
            process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Instance]]:
    started: list[Instance] = []

    def make(*arguments: str) -> Instance:
        started.append(Instance(tmp_path, *arguments))
        return started[-1]

    yield make
    for instance in started:
        instance.kill_what_is_left()


def test_it_serves_answers_questions_and_ends_without_a_trace(start: Callable[..., Instance]) -> None:
    instance = start("--workers", "2")
    port = instance.wait_until_ready()
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200

    with connect(f"ws://127.0.0.1:{port}/ws/updates?client=alice") as client:
        connection = json.loads(client.recv())["connection"]

    def ended() -> Any:
        asked = instance.ask("history", connection, "--json")
        return json.loads(asked.stdout)["connections"][0]["ended_at"] if asked.returncode == 0 else None

    eventually(ended, "the connection's end is in the history")
    row = json.loads(instance.ask("history", "alice", "--json").stdout)["connections"][0]
    assert (row["connection_id"], row["reason"], row["client_id"]) == (connection, "normal", "alice")
    assert "connection.closed" in instance.ask("history", connection).stdout

    tail = [json.loads(line) for line in instance.ask("tail", "--no-follow", "--json").stdout.splitlines()]
    assert [e["event_type"] for e in tail if e["connection_id"] == connection] == [
        "connection.opened",
        "connection.closed",
    ]
    only = instance.ask("tail", "--no-follow", "--json", "--client", "alice", "--type", "connection.opened").stdout
    assert [json.loads(line)["connection_id"] for line in only.splitlines()] == [connection]
    heads = json.loads(instance.ask("log", "head", "--json").stdout)
    assert sum(shard["head_position"] for shard in heads) == len(tail)
    assert [shard["head_recorded_at"] is None for shard in heads] == [shard["head_position"] == 0 for shard in heads]
    assert "1970" not in instance.ask("log", "head").stdout
    assert json.loads(instance.ask("log", "verify", "--json").stdout)["findings"] == []
    lag = json.loads(instance.ask("projections", "lag", "--json").stdout)
    assert {"connections", "closes", "clients", "nodes", "counters", "source_gaps"} == {e["projection"] for e in lag}
    unknown = instance.ask("history", "nobody")
    assert (unknown.returncode, unknown.stderr) == (
        1,
        "pulsetrail: There is no client or connection 'nobody' on record.\n",
    )

    second = instance.ask("serve", "--port", "0")
    assert second.returncode == 2
    assert "is in use by another instance" in second.stderr

    instance.process.send_signal(signal.SIGTERM)
    assert instance.process.wait(30) == 0
    assert instance.family() == []
    stopped = instance.ask("history", "alice")
    assert stopped.returncode == 3
    assert stopped.stderr.count("\n") == 1
    assert "start pulsetrail serve" in stopped.stderr


def test_a_worker_that_is_killed_is_started_again_and_said_in_one_line(start: Callable[..., Instance]) -> None:
    instance = start()
    port = instance.wait_until_ready()
    killed = instance.worker("gateway-0")
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: instance.worker("gateway-0") != killed, "another process has taken its place")
    assert eventually(lambda: httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200, "it answers")
    said = [line for line in instance.said.read_text().splitlines() if "gateway-0 ended" in line]
    assert said == ["gateway-0 ended (SIGKILL); starting it again in 0.5 s."]


def test_workers_die_with_their_supervisor_and_the_next_start_adopts_the_database(
    start: Callable[..., Instance],
) -> None:
    first = start("--workers", "2")
    first.wait_until_ready()
    workers = [psutil.Process(first.worker(name)) for name in ("gateway-0", "gateway-1", "projector")]
    first.process.kill()
    first.process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=5)
    assert not alive, "no worker outlives its supervisor"
    assert len(gone) == 3

    second = start("--workers", "1")
    second.wait_until_ready()
    assert "Adopted the PostgreSQL" in second.said.read_text()
    second.process.send_signal(signal.SIGINT)
    assert second.process.wait(30) == 0
    assert second.family() == []


def test_a_database_that_dies_is_brought_back(start: Callable[..., Instance]) -> None:
    instance = start()
    port = instance.wait_until_ready()
    postmaster = instance.data / "postgres" / "postmaster.pid"
    before = int(postmaster.read_text().splitlines()[0])
    os.kill(before, signal.SIGKILL)
    with connect(f"ws://127.0.0.1:{port}/ws/updates?client=bob") as client:
        client.recv()

    def is_back() -> bool:
        lines = postmaster.read_text().splitlines() if postmaster.exists() else []
        return len(lines) > 7 and lines[7].strip() == "ready" and int(lines[0]) != before

    eventually(is_back, "another PostgreSQL serves")
    eventually(lambda: instance.ask("history", "bob").returncode == 0, "what happened meanwhile is on record")
