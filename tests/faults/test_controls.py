"""Each promise has a negative control: break the product, and the unchanged fault test must say what is lost."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from controls import Control, PatchRefused, all_controls, patched_copy, read_control, run_against
from sizes import FULL

SECONDS = 300.0

CONTROLS = [pytest.param(control, id=control.patch.stem) for control in all_controls() if FULL or control.is_small]


@pytest.mark.timeout(SECONDS + 30)
@pytest.mark.parametrize("control", CONTROLS)
def test_a_broken_promise_is_noticed(control: Control, tmp_path: Path) -> None:
    source = patched_copy(control.patch, tmp_path / "source")
    done = run_against(source, control.test, seconds=SECONDS)
    assert done.returncode == 1, f"it did not fail, but ended with {done.returncode}:\n{done.stdout[-3000:]}"
    said = [line for line in done.stdout.splitlines() if line.startswith("E  ")]
    assert any(control.finds in line for line in said), f"nobody said {control.finds!r}:\n" + "\n".join(said)


@pytest.mark.parametrize("patch", sorted(control.patch for control in all_controls()), ids=lambda patch: patch.stem)
def test_every_control_still_fits_the_source(patch: Path, tmp_path: Path) -> None:
    patched_copy(patch, tmp_path / "source")


def test_a_control_that_no_longer_fits_says_so(tmp_path: Path) -> None:
    patch = tmp_path / "old.patch"
    patch.write_text(
        "--- a/core/pulsetrail/shipper.py\n+++ b/core/pulsetrail/shipper.py\n"
        "@@ -1,2 +1,2 @@\n a line that was there once\n-another\n+a third\n"
    )
    with pytest.raises(PatchRefused, match=re.escape("old.patch does not apply any more")):
        patched_copy(patch, tmp_path / "source")


def test_a_control_without_a_test_is_refused(tmp_path: Path) -> None:
    patch = tmp_path / "mute.patch"
    patch.write_text("It breaks something.\n\nFinds: hole\nSize: small\n--- a/x\n+++ b/x\n")
    with pytest.raises(ValueError, match="has to name its Test"):
        read_control(patch)
