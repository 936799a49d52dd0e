"""The command's help has examples, and its mistakes cost a line."""

from __future__ import annotations

import pytest

from pulsetrail.cli import run
from pulsetrail.cli.chaos_commands import chaos

COMMANDS = [
    command.name or command.callback.__name__.replace("_", "-")
    for command in chaos.registered_commands
    if command.callback
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_order_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chaos", command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Examples:" in shown
    assert f"pulsetrail chaos {command}" in shown


@pytest.mark.parametrize(
    ("arguments", "exit_code", "sentence"),
    [
        (("latency", "fast"), 2, "no latency in milliseconds"),
        (("blackhole", "--for", "soon"), 2, "no duration such as 500ms"),
        (("flap", "10s"), 2, "no pair of durations"),
        (("http", "200"), 2, "greater than or equal to 400"),
        (("bandwidth", "0"), 2, "no rate in bytes a second"),
        (("status", "--control", "192.0.2.1:9001"), 2, "not on loopback"),
        (("status", "--control", "9001"), 2, "no address such as 127.0.0.1:8000"),
        (("serve", "--listen", "0.0.0.0:9000"), 2, "allowed: an address on loopback"),
        (("serve", "--listen", "127.0.0.1:0", "--collector", "localhost:8000"), 2, "no address of a collector"),
        (("lift", "--control", "127.0.0.1:9"), 1, "No chaos proxy takes orders at 127.0.0.1:9"),
    ],
)
def test_a_mistake_costs_one_line(
    arguments: tuple[str, ...], exit_code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["chaos", *arguments]) == exit_code
    told = capsys.readouterr()
    assert sentence in told.err
    assert (told.err.count("\n"), told.out) == (1, "")
