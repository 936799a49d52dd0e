"""Negative controls: patches to the product's source under which a fault test, itself unchanged, has to fail.

A patch is a unified diff in ``controls/``, with words before it that say what it breaks and how that has to be noticed:

    What it does to the product, and which promise that breaks.

    Test: tests/faults/test_kills.py::test_name[parameters]
    Finds: lost opening
    Size: small

``Test`` is what is run against a copy of the source tree with the patch in it; ``Finds`` is what its failure has to
say. Controls of size ``small`` run in ``make test``, all in ``make faults``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DIRECTORY: Final = Path(__file__).with_name("controls")
SOURCES: Final = ("core", "service", "collector", "migrations")
_HEADER: Final = re.compile(r"^(Test|Finds|Size): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Control:
    """A patch, and what has to come of it."""

    patch: Path
    test: str
    finds: str
    is_small: bool


def read_control(patch: Path) -> Control:
    """The control in a file.

    Raises:
        ValueError: it does not say which test it is for, or what that finds.
    """
    words = dict(_HEADER.findall(patch.read_text().partition("\n--- ")[0]))
    if words.keys() < {"Test", "Finds", "Size"} or words["Size"] not in ("small", "full"):
        raise ValueError(f"{patch.name} has to name its Test, what that Finds, and its Size (small or full)")
    return Control(patch, words["Test"], words["Finds"], words["Size"] == "small")


def all_controls() -> list[Control]:
    """Every control there is."""
    return [read_control(patch) for patch in sorted(DIRECTORY.glob("*.patch"))]


class PatchRefused(AssertionError):
    """A patch does not fit the source any more: the code that it breaks has changed, so the control has to as well."""


def patched_copy(patch: Path, directory: Path) -> Path:
    """Copy the source tree into ``directory`` and patch it.

    Raises:
        PatchRefused: the patch does not apply.
    """
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, directory / folder, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        ["git", "apply", "--verbose", "--recount", str(patch)],
        cwd=directory,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(directory.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise PatchRefused(f"{patch.name} does not apply any more; make it anew:\n{done.stderr}")
    return directory


def run_against(source: Path, test: str, *, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run one test with another source tree in the place of the installed one."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(source / folder) for folder in SOURCES[:3])}
    where = subprocess.run(
        [sys.executable, "-c", "import pulsetrail; print(pulsetrail.__file__)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert where.stdout.startswith(str(source)), f"not the copy is run, but {where.stdout}"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={source / 'tmp'}", test],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
