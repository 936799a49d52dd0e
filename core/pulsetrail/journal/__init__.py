"""The journal: the local file in which a process makes an event durable before anyone sees its effect.

One SQLite file per process. The event loop only appends to a list; at the end of its turn the list goes to the writer
thread as one group and one commit, and while that commit runs the next group fills.

What the journal promises, and under which conditions:

* ``durable()`` returns after the commit (with ``sync="full"``, after fsync) of everything recorded in this turn of the
  loop. So: ``journal.record(event)`` and ``await journal.durable()`` with no other ``await`` between them.
* Sequences per producer and shard have no holes: events are numbered in the commit, after shedding.
* A refused commit (cap reached, disk error) raises for those who wait. ``connection.opened`` and what browsers sent are
  then forgotten, for they are refused or sent again; every other lifecycle event is kept in memory and tried again
  with each later commit and once a second. Should the process die before, ``open_connection`` still says what was open.
* Every event that is given up is counted, by the observer and in an ``events.dropped`` event.
"""

from __future__ import annotations

from pulsetrail.journal.recorder import Journal
from pulsetrail.journal.store import LaneState, PendingBatch

__all__ = ["Journal", "LaneState", "PendingBatch"]
