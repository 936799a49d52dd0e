"""What runs beside a process's main work, and that its end does not go unnoticed."""

from __future__ import annotations

import asyncio
import logging


def complain(logger: logging.Logger, whose: str, task: asyncio.Task[None]) -> None:
    """For ``task.add_done_callback``: a part that stops by itself is a bug; without this nobody would hear of it."""
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a part of the %s stopped: %r", whose, error, exc_info=error)
