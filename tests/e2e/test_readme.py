"""The README's commands do what it says, word for word but for the port and the place of the programs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from service_runner import Service

README = Path(__file__).parents[2] / "README.md"


def blocks(service: Service) -> list[str]:
    """The shell blocks, for the service of the tests."""
    found = re.findall(r"```sh\n(.+?)```", README.read_text(), re.DOTALL)
    return [
        block.replace("127.0.0.1:8000", f"127.0.0.1:{service.port}")
        .replace(".venv/bin/python", sys.executable)
        .replace(".venv/bin/pulsetrail", f"{sys.executable} -m pulsetrail.cli")
        for block in found
        if "make " not in block
    ]


def run(service: Service, block: str) -> str:
    done = subprocess.run(
        ["bash", "-c", block],
        env=service.environment,
        cwd=service.data_dir.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_newcomer_sees_a_drop_and_the_figures(service: Service) -> None:
    drop, look, *_ = blocks(service)
    told = run(service, drop)
    assert '"type":"welcome"' in told
    assert "peer_vanished" in told
    told = run(service, look)
    assert '"stream_position"' in told
    assert "ws_updates_connections_opened_total" in told
