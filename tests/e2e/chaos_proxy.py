"""``pulsetrail chaos serve`` as a user starts it, on free ports."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service_runner import PULSETRAIL, Service


class ChaosProxy:
    """A running proxy in front of a service."""

    def __init__(self, service: Service, listen: str, control: str) -> None:
        self.listen = listen
        self.control = control
        self._service = service

    def order(self, *arguments: str) -> Any:
        """Give an order; returns how the proxy stands then."""
        return self._service.json("chaos", *arguments, "--control", self.control)


@contextmanager
def chaos_in_front_of(service: Service) -> Iterator[ChaosProxy]:
    """A proxy for the length of the context."""
    free = "127.0.0.1:0"
    command = ("chaos", "serve", "--listen", free, "--control", free, "--target", f"{service.host}:{service.port}")
    with subprocess.Popen(
        [*PULSETRAIL, *command, "--json"],
        env=service.environment,
        cwd=service.data_dir.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            yield ChaosProxy(service, told["listen"], told["control"])
        finally:
            process.terminate()
            process.wait(20)
