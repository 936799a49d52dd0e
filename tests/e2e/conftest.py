"""One service for all tests that do not harm it, and private ones for those that do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service_runner import Service


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """``pulsetrail serve`` with two workers and its embedded database, shared by the tests of this folder."""
    running = Service(tmp_path_factory.mktemp("serve") / "data", "--workers", "2")
    running.data_dir.mkdir()
    running.start()
    try:
        yield running
    finally:
        running.stop()


Private = Callable[..., Service]


@pytest.fixture
def private_service(tmp_path: Path) -> Iterator[Private]:
    """Makes services of this test's own; whatever happens to them, nothing of them is left."""
    made: list[Service] = []

    def make(name: str = "data", *arguments: str, **environment: str) -> Service:
        running = Service(tmp_path / name, *arguments, prefix=(), **environment)
        running.data_dir.mkdir(exist_ok=True)
        made.append(running)
        return running

    yield make
    for running in made:
        with contextlib.suppress(AssertionError):
            running.kill_everything()
