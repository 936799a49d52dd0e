"""The benchmarks run. What they measure here means nothing: the machine is busy with other tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from bench.__main__ import main
from bench.results import Outcome
from bench.workloads import WORKLOADS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("workload", WORKLOADS)
def test_a_workload_gives_a_figure_of_each_contestant_or_says_why_not(workload: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", workload, "--size", "small", "--no-plots", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    outcome = msgspec.json.decode((tmp_path / f"{workload}.json").read_bytes(), type=Outcome)
    for contestant in WORKLOADS[workload].contestants:
        measured = any(one.contestant == contestant and None not in one.values for one in outcome.series)
        # A machine may lack npm or nginx, and in a run so short the load generator may have been what limits.
        excused = any(
            text.startswith(f"{contestant} was not measured:")
            or (text.startswith(f"{contestant}, round") and "bottleneck" in text)
            for text in (*outcome.notes, *outcome.refusals)
        )
        assert measured or excused, f"{contestant}: {outcome.notes} {outcome.refusals}"
    assert workload in (tmp_path / "results.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["B99"], "there is no workload B99"),
        (["B5", "--only", "iis"], "B5 has no contestant 'iis'"),
        (["report", "nowhere"], "There are no results in nowhere"),
    ],
)
def test_a_mistake_in_the_call_is_one_sentence(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    assert main() in (1, 2)
    errors = capsys.readouterr().err
    assert said in errors
    assert "Traceback" not in errors
