"""The service's runner is shared with the end-to-end tests."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "e2e"))

from fleet import OPEN_HOUSE
from service_runner import Service

Serve = Callable[..., Service]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes services that a fleet may visit; whatever happens to them, nothing of them is left."""
    made: list[Service] = []

    def make(*arguments: str, **environment: str) -> Service:
        service = Service(tmp_path / "data", *arguments, prefix=(), **{**OPEN_HOUSE, **environment})
        service.data_dir.mkdir(exist_ok=True)
        made.append(service)
        return service

    yield make
    for service in made:
        with contextlib.suppress(AssertionError):
            service.kill_everything()
