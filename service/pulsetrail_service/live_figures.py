"""The service's own live figures as updates on topic ``telemetry``: what the Monitor page shows.

They come from the projections, by way of the metrics' snapshots, like everything else that says something about the
domain; nothing is counted here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from pulsetrail.errors import LogUnavailable
from pulsetrail.metrics_snapshot import Family, SnapshotReader
from pulsetrail_service.updates import Broadcaster

TOPIC: Final = "telemetry"

logger = logging.getLogger("pulsetrail.gateway")


async def publish_live_figures(broadcaster: Broadcaster, reader: SnapshotReader, interval: float) -> None:
    """Publish them every ``interval`` seconds until cancelled; a round that fails is left out."""
    while True:
        await asyncio.sleep(interval)
        try:
            figures = await asyncio.to_thread(read_live_figures, reader)
            await broadcaster.publish(TOPIC, figures)
        except LogUnavailable:
            continue
        except Exception:
            logger.exception("the live figures could not be published")


def read_live_figures(reader: SnapshotReader) -> dict[str, Any]:
    """The domain's figures now: one key a metric, summed to a number, or a table of its label's values.

    ``current`` is false while no projector exports any.
    """
    families = next((s.domain for s in reversed(reader.snapshots()) if s.domain is not None), None)
    figures = {family.name: _figure(family) for family in families or []}
    return {"time": time.time_ns() // 1_000_000, "current": families is not None, "figures": figures}


def _figure(family: Family) -> Any:
    if family.kind == "histogram":
        return {
            labels["le"] if name.endswith("_bucket") else name.rpartition("_")[2]: value
            for name, labels, value in family.samples
        }
    samples = [(labels, value) for _, labels, value in family.samples]
    if samples and not any(labels for labels, _ in samples):
        return sum(value for _, value in samples)
    table: dict[str, float] = {}
    for labels, value in samples:
        key = next(iter(labels.values()))
        if value:
            table[key] = table.get(key, 0) + value
    return table
