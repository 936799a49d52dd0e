"""Shared with the other tests: the service's runner, the way to a Postgres that misbehaves, and made-up lives."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("e2e", "log", "projections")]

from fleet import OPEN_HOUSE
from service_runner import Service

Serve = Callable[..., Service]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Makes services that a fleet may visit; whatever happens to them, nothing of them is left."""
    made: list[Service] = []

    def make(*arguments: str, name: str = "data", **environment: str) -> Service:
        service = Service(tmp_path / name, *arguments, prefix=(), **{**OPEN_HOUSE, **environment})
        service.data_dir.mkdir(exist_ok=True)
        made.append(service)
        return service

    yield make
    for service in made:
        with contextlib.suppress(AssertionError):
            service.kill_everything()
