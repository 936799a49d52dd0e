"""A process that records and acknowledges until it is killed; run by ``test_journal_crashes``.

It writes one line to its standard output for each attempt (before recording) and each acknowledgement (after
``durable``), as a client of the real service would see them. Usage: ``journal_child.py PATH MODE ACKNOWLEDGEMENTS``: it
kills itself with SIGKILL right after so many acknowledgements. ``MODE`` is ``honest``, or ``early``: a journal that
acknowledges before the commit.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from journal_events import SHARDS, closed, opened

from pulsetrail.journal import Journal

TASKS = 8


class EarlyJournal(Journal):
    """The negative control: durable in name only."""

    async def durable(self) -> None:
        return


async def main(path: Path, mode: str, acknowledgements: int) -> None:
    journal = (EarlyJournal if mode == "early" else Journal).open(path, sync="full")
    await journal.recover()
    left = acknowledgements

    def say(word: str, event_id: object) -> None:
        os.write(1, f"{word} {event_id}\n".encode())

    async def client(number: int) -> None:
        nonlocal left
        while True:
            first = opened(shard=number % SHARDS)
            for event in (first, closed(first)):
                say("attempt", event.event_id)
                journal.record(event)
                await journal.durable()
                say("ack", event.event_id)
                left -= 1
                if left <= 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    await asyncio.gather(*(client(number) for number in range(TASKS)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
