"""The browser's table of close codes is the gateway's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from pulsetrail.close_codes import BY_CODE, CLIENT_CAUSES, Retry, is_retryable

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "scripts/generate-close-codes"
TARGET = ROOT / "client/src/close-codes.ts"


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


def test_the_committed_copy_is_not_stale() -> None:
    result = generate("--check")
    assert result.returncode == 0, result.stderr


def test_each_code_is_there_with_its_reason() -> None:
    rows = re.findall(r'^  (\d+): "(\w+)",$', TARGET.read_text(), re.MULTILINE)
    assert {int(code): reason for code, reason in rows} == {
        code: str(ending.reason) for code, ending in BY_CODE.items()
    }


def test_the_client_comes_back_after_the_same_codes() -> None:
    final, new_token = (
        {int(code) for code in re.findall(r"\d+", codes)}
        for codes in re.findall(r"readonly number\[\] = \[(.*)\]", TARGET.read_text())
    )
    assert final == {code for code in BY_CODE if not is_retryable(code)}
    assert new_token == {
        code for code, ending in BY_CODE.items() if ending.retry in (Retry.NEW_TOKEN, Retry.ONCE_NEW_TOKEN)
    }


def test_each_cause_that_the_collector_knows_is_a_cause_that_the_client_can_name() -> None:
    words = set(re.findall(r'"(\w+)"', TARGET.read_text().partition("/** Why, by code")[0]))
    assert words == set(CLIENT_CAUSES)


def test_a_stale_copy_is_told_and_left_alone(tmp_path: Path) -> None:
    stale = tmp_path / "close-codes.ts"
    stale.write_text("// old\n")
    result = generate("--check", "--target", str(stale))
    assert result.returncode == 1
    assert "run scripts/generate-close-codes" in result.stderr
    assert stale.read_text() == "// old\n"


def test_a_missing_copy_is_stale_and_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / "close-codes.ts"
    assert generate("--check", "--target", str(target)).returncode == 1
    assert generate("--target", str(target)).returncode == 0
    assert target.read_text() == TARGET.read_text()
