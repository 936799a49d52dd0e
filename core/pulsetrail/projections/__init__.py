"""Read models folded from the log: a file per question, and the runner that keeps them at the head.

Invariants: a build's tables and its checkpoint change in one transaction, so every event has its effect exactly once;
a fold gives the same rows for any size of batch; what depends on the time of looking is computed when it is read.
"""

from __future__ import annotations

from typing import Final

from pulsetrail.projections import clients, closes, connections, counters, nodes, source_gaps
from pulsetrail.projections.projection import Projection

PROJECTIONS: Final[dict[str, Projection]] = {
    module.PROJECTION.name: module.PROJECTION for module in (connections, closes, clients, nodes, counters, source_gaps)
}
"""Every projection, by name."""
