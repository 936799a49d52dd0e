"""The workloads by their ids, in the order in which they run."""

from __future__ import annotations

from bench.stage import Workload
from bench.workloads import b01_idle, b02_memory, b03_broadcast, b04_slow, b05_storm, b10_scrape

_ALL: tuple[Workload, ...] = (
    b01_idle.WORKLOAD,
    b02_memory.WORKLOAD,
    b03_broadcast.WORKLOAD,
    b04_slow.WORKLOAD,
    b05_storm.WORKLOAD,
    b10_scrape.WORKLOAD,
)

WORKLOADS = {workload.id: workload for workload in _ALL}
