"""The workloads by their ids, in the order in which they run."""

from __future__ import annotations

from bench.stage import Workload
from bench.workloads import b03_broadcast, b05_storm

_ALL: tuple[Workload, ...] = (b03_broadcast.WORKLOAD, b05_storm.WORKLOAD)

WORKLOADS = {workload.id: workload for workload in _ALL}
