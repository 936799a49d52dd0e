"""``pulsetrail worker``: the processes that the supervisor starts. Hidden; nobody types these."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Annotated, Any

import typer
import uvloop

from pulsetrail.settings import load_settings
from pulsetrail.supervisor import die_with_supervisor

worker = typer.Typer(help="A process of an instance, started by its supervisor.")


@worker.command()
def gateway(
    index: int, collect: Annotated[bool, typer.Option("--collect", help="Serve the collector's routes too.")] = False
) -> None:
    """One gateway process."""
    # Imported here: a command that only asks the database does not wait for a web framework.
    from pulsetrail.cli.gateway_process import run_gateway

    _run(run_gateway(load_settings(), index, collect=collect))


@worker.command()
def collector() -> None:
    """The collector in a process of its own."""
    from pulsetrail.cli.collector_process import run_collector

    _run(run_collector(load_settings()))


@worker.command()
def projector() -> None:
    """The projector."""
    from pulsetrail.cli.projector_process import run_projector

    _run(run_projector(load_settings()))


def _run(role: Coroutine[Any, Any, None]) -> None:
    # Ctrl-C reaches the whole process group; the supervisor decides who ends when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_supervisor()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(role)
