"""A person's mistake costs one line; a program's reader may leave; help has examples."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pulsetrail import __version__
from pulsetrail.cli import app, run
from pulsetrail.datadir import DataDir
from pulsetrail.errors import NotOnRecord
from pulsetrail.events import CATALOGUE

COMMAND = [sys.executable, "-P", "-m", "pulsetrail.cli"]
COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bare = {name: value for name, value in os.environ.items() if "DATABASE_URL" not in name}
    return subprocess.run(
        [*COMMAND, *arguments], env={**bare, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def test_it_tells_its_version() -> None:
    done = call("--version")
    assert (done.returncode, done.stdout) == (0, f"pulsetrail {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [("serv",), ("serve", "--port", "x"), ("serve", "--colour"), ("config", "extra"), ("projections", "x")]
)
def test_a_wrong_call_costs_one_line_and_exit_2(arguments: tuple[str, ...]) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("pulsetrail: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"pulsetrail {command}" in shown


def test_a_reader_that_leaves_early_is_no_error() -> None:
    piped = subprocess.run(
        ["bash", "-c", f"{' '.join(COMMAND)} config --json | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, "[\n", "")


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_one_line_and_starts_nothing(taken_port: int, tmp_path: Path) -> None:
    done = call("serve", "--port", str(taken_port), PULSETRAIL_DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == 2
    assert done.stderr == (
        f"pulsetrail: Port {taken_port} on 127.0.0.1 is taken; stop the other program or choose one with --port.\n"
    )
    assert not (tmp_path / "data" / "postgres").exists()


def test_a_port_that_another_instance_shares_counts_as_taken(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = call("serve", "--port", str(listener.getsockname()[1]), PULSETRAIL_DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == 2
    assert "is taken" in done.stderr


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_a_host_that_is_not_ours_is_one_line(host: str, tmp_path: Path) -> None:
    done = call("serve", "--host", host, PULSETRAIL_DATA_DIR=str(tmp_path), PULSETRAIL_ALLOW_INSECURE="true")
    assert done.returncode == 2
    assert done.stderr == f"pulsetrail: PULSETRAIL_HOST is '{host}'; allowed: an address of this machine.\n"


def test_a_data_directory_in_use_is_one_line_and_untouched(tmp_path: Path) -> None:
    with DataDir(tmp_path).lock():
        before = sorted(path.name for path in tmp_path.rglob("*"))
        done = call("serve", "--port", "0", PULSETRAIL_DATA_DIR=str(tmp_path))
        after = sorted(path.name for path in tmp_path.rglob("*"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"pulsetrail: The data directory {tmp_path} is in use by another instance;")
    assert done.stderr.count("\n") == 1
    assert after == before


@pytest.mark.parametrize("role", ["gateway", "collector", "projector"])
def test_a_role_apart_needs_a_database_url(role: str, tmp_path: Path) -> None:
    done = call(role, PULSETRAIL_DATA_DIR=str(tmp_path))
    assert done.returncode == 3
    assert "set DATABASE_URL" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_interrupt_is_no_traceback() -> None:
    waiting = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, signal, sys, typer\nfrom pulsetrail.cli import app, run\n"
            "app.command('wait')(lambda: os.kill(os.getpid(), signal.SIGINT))\nsys.exit(run(['wait']))",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    _, err = waiting.communicate(timeout=30)
    assert (waiting.returncode, err) == (130, "")


@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_data_directory_that_cannot_be_made_is_one_line(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = call("serve", "--port", "0", "--data-dir", str(tmp_path / "file" / below))
    assert done.returncode == 2
    assert done.stderr.startswith("pulsetrail: PULSETRAIL_DATA_DIR is ")
    assert done.stderr.endswith("; allowed: a directory that can be written.\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [("history", b"\xff\xfe"), ("tail", "--client", b"\xff"), (b"\xff",)])
def test_an_argument_that_is_no_text_costs_one_line(arguments: tuple[str | bytes, ...]) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pulsetrail: The argument '\\udcff")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("subject", ["", "a\nb", "\x1b[31mred", "\udcff"])
def test_what_is_not_on_record_is_named_in_one_line_that_moves_no_cursor(subject: str) -> None:
    sentence = str(NotOnRecord("client", subject))
    assert sentence == f"There is no client {subject!r} on record."
    assert sentence.isprintable()


def test_an_event_type_that_does_not_exist_is_answered_with_those_that_do() -> None:
    done = call("tail", "--type", "connection.closed", "--type", "nosuch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'nosuch' is no type of event" in done.stderr
    assert all(name in done.stderr for name in CATALOGUE)
    assert done.stderr.count("\n") == 1
