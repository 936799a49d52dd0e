"""What a run ran on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from bench.results import Machine


def this_machine(versions: Mapping[str, str]) -> Machine:
    """Kernel, processor and memory of this machine, with ``versions`` of what competed."""
    return Machine(
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        versions={"python": platform.python_version(), **dict(sorted(versions.items()))},
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or "unknown"
