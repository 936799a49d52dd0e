"""The page on resilience names files, definitions and tests; all of them are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "resilience.md").read_text()
REFERENCES = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|tsx?))(?:::([^`]+))?`", PAGE)


def points() -> dict[str, str]:
    """Each point of the plan, by its words in bold, and what is said of it."""
    return dict(re.findall(r"^\*\*(.+?)\*\*(.+?)(?=^\*\*|^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(("file", "name"), REFERENCES)
def test_what_the_page_refers_to_is_there(file: str, name: str) -> None:
    assert (ROOT / file).is_file(), f"{file} is not there"
    assert name in (ROOT / file).read_text(), f"{file} has no {name!r}"


def test_every_point_is_held_by_a_test() -> None:
    assert len(points()) == 15
    for title, text in points().items():
        tests = [file for file, name in re.findall(r"`([\w./-]+)::([^`]+)`", text) if "test" in file or "spec" in file]
        assert tests, f"{title} is held by no test"
