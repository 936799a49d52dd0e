"""A worker's end is in order whatever lies in the run directory."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from pulsetrail.supervisor import Worker, WorkerSpec


def test_a_directory_in_place_of_a_worker_s_state_does_not_stop_its_end(tmp_path: Path) -> None:
    (tmp_path / "odd.json").mkdir()
    said: list[str] = []
    worker = Worker(WorkerSpec("odd", ("no-such-role",), 30.0), tmp_path, os.environ, said.append)
    worker.start()
    worker.wait(time.monotonic() + 30, threading.Event())
    assert not worker.running
    assert said == []
