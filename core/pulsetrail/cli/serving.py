"""``pulsetrail serve`` and the roles apart: all of them run under the supervisor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pulsetrail.cli.instance import PROJECTOR, collector_spec, gateway_specs, run_everything, run_roles
from pulsetrail.settings import load_settings

Host = Annotated[str | None, typer.Option(help="Address to listen on (PULSETRAIL_HOST).")]
Port = Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one (PULSETRAIL_PORT).")]
Data = Annotated[
    Path | None, typer.Option("--data-dir", help="Journals, locks and the embedded database (PULSETRAIL_DATA_DIR).")
]
Workers = Annotated[int | None, typer.Option(help="Gateway processes on the port (PULSETRAIL_WORKERS).")]


def serve(host: Host = None, port: Port = None, data_dir: Data = None, workers: Workers = None) -> None:
    """Run everything on this machine: gateway, collector, projections, and a database unless DATABASE_URL names one.

    Stops in order on Ctrl-C or SIGTERM; a second one hurries.

    Examples:

        pulsetrail serve

        pulsetrail serve --port 9000 --workers 2

        DATABASE_URL=postgresql://user:password@db/pulsetrail pulsetrail serve
    """
    run_everything(load_settings(host=host, port=port, data_dir=data_dir, workers=workers))


def gateway(host: Host = None, port: Port = None, data_dir: Data = None, workers: Workers = None) -> None:
    """Run the gateway alone: /ws/updates, /v1/updates, health and metrics.

    Examples:

        DATABASE_URL=postgresql://user:password@db/pulsetrail pulsetrail gateway --workers 4
    """
    settings = load_settings(host=host, port=port, data_dir=data_dir, workers=workers)
    run_roles(settings, gateway_specs(settings, collect=False), listens=True)


def collector(host: Host = None, port: Port = None, data_dir: Data = None) -> None:
    """Run the collector alone: /v1/telemetry and /v1/reports.

    Examples:

        DATABASE_URL=postgresql://user:password@db/pulsetrail pulsetrail collector --port 8001
    """
    run_roles(load_settings(host=host, port=port, data_dir=data_dir), [collector_spec()], listens=True)


def projector(data_dir: Data = None) -> None:
    """Run the projector alone: projections, the reaper, partitions.

    Several may run; each projection and shard is folded by one at a time.

    Examples:

        DATABASE_URL=postgresql://user:password@db/pulsetrail pulsetrail projector
    """
    run_roles(load_settings(data_dir=data_dir), [PROJECTOR], listens=False)
