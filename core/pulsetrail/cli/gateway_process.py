"""One gateway process: settings in, parts wired, until SIGTERM."""

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
from pulsetrail_collector.app import build_collector
from pulsetrail_collector.dead_letters import DeadLetters
from pulsetrail_collector.routes import router
from pulsetrail_service.app import Gateway, create_app
from pulsetrail_service.node import patience_of
from pulsetrail_service.pages import page_routes, pages_directory
from pulsetrail_service.server import gateway_server
from pulsetrail_service.shared_updates import SharedUpdates
from pulsetrail_service.updates import LocalUpdates, UpdateSource


async def run_gateway(settings: Settings, index: int, *, collect: bool) -> None:
    """Serve one worker's share of the port; ``collect`` mounts the collector's routes beside."""
    name = f"gateway-{index}"
    data = DataDir(settings.data_dir)
    node_id = f"{data.node_name(settings.node_name)}-{index}"
    url = find_database(settings)
    metrics = PipelineMetrics(CollectorRegistry())
    with logging_to_stdout(settings, "gateway", node_id, metrics):
        log = PostgresLog(url, application_name=f"pulsetrail {name}", observer=metrics)
        deployment = await deployment_of(data, log)
        journal = Journal.open(
            data.journals / f"{name}.sqlite",
            sync=settings.journal_sync,
            max_bytes=settings.journal_max_bytes,
            observer=metrics,
        )
        patience = patience_of(settings.node_lease)
        gateway = Gateway(
            settings,
            node_id=node_id,
            worker=index,
            deployment=deployment,
            journal=journal,
            log=log,
            leases=PostgresLog(
                url, application_name=f"pulsetrail {name} lease", size=1, connect_timeout=patience, deadline=patience
            ),
            source=_update_source(settings, url, alone=collect and settings.workers == 1),
            metrics=metrics,
            snapshots=data.metrics,
            ticket_key=settings.ticket_key.get_secret_value() if settings.ticket_key else data.ticket_key(),
        )
        fleet = Fleet(url)
        dead_letters = DeadLetters(metrics)
        routers = [page_routes(pages_directory(), settings.auth_mode)]
        if collect:
            collector = build_collector(
                settings, journal=journal, deployment=deployment, metrics=metrics, dead_letters=dead_letters
            )
            routers.append(router(collector))
        app = create_app(gateway, targets=fleet.addresses, routers=routers)
        server = gateway_server(app, gateway)
        presence = Presence(node_id, "gateway", f"{settings.host}:{settings.port}")
        async with beside(fleet.stay_listed(presence), dead_letters.run(fleet.bury)):
            await serve_until_told(server, settings, data.run / f"{name}.json")


def _update_source(settings: Settings, url: str, *, alone: bool) -> UpdateSource:
    """In memory when this process is the only one that has clients; otherwise every process must see each update."""
    return LocalUpdates(settings.updates_ring) if alone else SharedUpdates(url, bound=settings.updates_ring)
