"""How much is run: a little in ``make test``, everything in ``make faults``, which sets the environment."""

from __future__ import annotations

import os
import secrets
import sys
from functools import cache
from typing import Final

FULL: Final = os.environ.get("FAULTS") == "full"


@cache
def seed_of_the_run() -> int:
    """``FAULTS_SEED``, or one that is made up and told, so that a failure can be had again."""
    seed = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(1 << 32))
    tell(f"seed {seed}")
    return seed


def tell(line: str) -> None:
    """A line for whoever waits; past pytest's capture when the run is long."""
    print(line, file=sys.__stderr__ if FULL else sys.stderr, flush=True)
