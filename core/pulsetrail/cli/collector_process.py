"""The collector in a process of its own: settings in, parts wired, until SIGTERM."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from pulsetrail.cli.database import deployment_of, find_database
from pulsetrail.cli.http_process import beside, logging_to_stdout, serve_until_told
from pulsetrail.datadir import DataDir
from pulsetrail.fleet import Fleet, Presence
from pulsetrail.journal import Journal
from pulsetrail.log.postgres import PostgresLog
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.settings import Settings
from pulsetrail_collector.app import PROCESS, collector_server, create_app


async def run_collector(settings: Settings) -> None:
    """Serve the collector's routes."""
    data = DataDir(settings.data_dir)
    node_id = f"{data.node_name(settings.node_name)}-{PROCESS}"
    url = find_database(settings)
    metrics = PipelineMetrics(CollectorRegistry())
    with logging_to_stdout(settings, PROCESS, node_id, metrics):
        log = PostgresLog(url, application_name=f"pulsetrail {PROCESS}", observer=metrics)
        deployment = await deployment_of(data, log)
        journal = Journal.open(
            data.journals / f"{PROCESS}.sqlite",
            sync=settings.journal_sync,
            max_bytes=settings.journal_max_bytes,
            observer=metrics,
        )
        fleet = Fleet(url)
        app = create_app(
            settings,
            journal=journal,
            log=log,
            deployment=deployment,
            metrics=metrics,
            snapshots=data.metrics,
            sink=fleet.bury,
        )
        presence = Presence(node_id, PROCESS, f"{settings.host}:{settings.port}")
        async with beside(fleet.stay_listed(presence)):
            await serve_until_told(collector_server(app), settings, data.run / f"{PROCESS}.json")
