"""The workloads by their ids, in the order in which they run."""

from __future__ import annotations

from bench.stage import Workload

_ALL: tuple[Workload, ...] = ()

WORKLOADS = {workload.id: workload for workload in _ALL}
