"""``pulsetrail demo``: an instance with simulated clients, so that there is something to look at."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

from pulsetrail.cli.instance import run_everything
from pulsetrail.cli.output import say
from pulsetrail.cli.serving import Data, Host, Port, Workers
from pulsetrail.settings import load_settings

QUICK = {
    "PULSETRAIL_HEARTBEAT_INTERVAL": "5",
    "PULSETRAIL_IDLE_TIMEOUT": "45",
    "PULSETRAIL_NODE_LEASE": "5",
}
"""Shorter than the defaults, so that a frozen client is closed while somebody still watches."""


def demo(
    host: Host = None,
    port: Port = None,
    data_dir: Data = None,
    workers: Workers = None,
    proxy_seconds: Annotated[float, typer.Option(min=1, help="Seconds after which the simulated proxy cuts.")] = 60.0,
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop after so many seconds.")] = None,
) -> None:
    """Serve, with a dozen simulated clients: stable, flapping, frozen, and behind a proxy that cuts at 60 s.

    Heartbeats are every 5 s and the idle timeout is 45 s here, unless you set them.

    Examples:

        pulsetrail demo

        pulsetrail demo --proxy-seconds 20 --seconds 120
    """
    for variable, value in QUICK.items():
        os.environ.setdefault(variable, value)
    settings = load_settings(host=host, port=port, data_dir=data_dir, workers=workers)

    @contextlib.contextmanager
    def clients(address: str) -> Iterator[None]:
        # Imported here: nobody else needs a WebSocket client.
        from pulsetrail.cli.simulation import DESCRIPTION, Simulation

        simulation = Simulation(address, proxy_seconds=proxy_seconds)
        simulation.start()
        say(DESCRIPTION.format(proxy_seconds=f"{proxy_seconds:g}", idle=f"{settings.idle_timeout:g}", address=address))
        end = None
        if seconds is not None:
            end = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
            end.start()
        try:
            yield
        finally:
            if end is not None:
                end.cancel()
            simulation.stop()

    run_everything(settings, beside=clients)
