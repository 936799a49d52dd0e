"""What the processes that listen have in common: logs, errands beside the app, and saying when they are ready."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from pulsetrail import ports
from pulsetrail.errands import complain
from pulsetrail.logs import configure_logs
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.settings import Settings
from pulsetrail.supervisor import write_state

logger = logging.getLogger("pulsetrail")


async def serve_until_told(server: uvicorn.Server, settings: Settings, state: Path) -> None:
    """Listen on a socket of our own until SIGTERM; ``state`` is written as soon as clients can connect."""
    with ports.shared_socket(settings.host, settings.port) as listener:
        async with beside(_say_ready(server, settings, state)):
            await server.serve(sockets=[listener])


async def _say_ready(server: uvicorn.Server, settings: Settings, state: Path) -> None:
    while not server.started:  # noqa: ASYNC110 - a flag is all that uvicorn has
        await asyncio.sleep(0.02)
    write_state(state, address=f"{settings.host}:{settings.port}")


@asynccontextmanager
async def beside(*errands: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run errands for as long as the block runs."""
    tasks = [asyncio.create_task(errand) for errand in errands]
    for task in tasks:
        task.add_done_callback(partial(complain, logger, "process"))
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def logging_to_stdout(settings: Settings, service: str, node: str, metrics: PipelineMetrics) -> Iterator[None]:
    """This process's logs, as the settings want them."""
    with configure_logs(
        service=service,
        node=node,
        level=settings.log_level,
        loki_url=settings.loki_url.get_secret_value() if settings.loki_url else None,
        loki_queue=settings.loki_queue,
        metrics=metrics,
    ):
        yield
