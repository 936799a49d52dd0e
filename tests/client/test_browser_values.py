"""The browser's values in .env.example are those that the client reads, with the client's own defaults."""

from __future__ import annotations

import re
from pathlib import Path

from pulsetrail.cli.settings_view import example

ROOT = Path(__file__).parent.parent.parent
OPTIONS = ROOT / "client/src/options.ts"
README = ROOT / "client/README.md"
TEXTS = {"VITE_PULSETRAIL_URL", "VITE_PULSETRAIL_TELEMETRY_URL", "VITE_PULSETRAIL_WRITE_KEY"}
"""What an application passes on by itself, as the client's README shows."""


def test_each_figure_of_the_client_is_there_under_the_name_that_it_reads() -> None:
    table = OPTIONS.read_text().partition("DEFAULTS: Figures = {")[2].partition("};")[0]
    figures = {
        "VITE_PULSETRAIL_" + re.sub("[A-Z]", r"_\g<0>", name).upper(): value.replace("_", "")
        for name, value in re.findall(r"(\w+): ([\d_.]+)", table)
    }
    assert len(figures) > 10
    offered = dict(re.findall(r"^# (VITE_\w+)=(.*)$", example(), re.MULTILINE))
    assert {name: value for name, value in offered.items() if name not in TEXTS} == figures
    assert offered.keys() >= TEXTS


def test_the_client_tells_how_each_value_is_set() -> None:
    readme = README.read_text()
    for name in re.findall(r"^# (VITE_\w+)=", example(), re.MULTILINE):
        assert name in readme, f"{name} is not in {README.name}"
