"""The test's end of ``armed/sitecustomize.py``: arms a point, and sees when a process got there."""

from __future__ import annotations

import asyncio
import mmap
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from armed.sitecustomize import BYTES, COUNTDOWN, FIRED, PID, POINT, TRIGGER, VICTIMS, index_of

_ARMED: Final = Path(__file__).with_name("armed")


class Trigger:
    """The file that the service's processes look at."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(BYTES))
        self._path = path
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), BYTES)

    @property
    def environment(self) -> dict[str, str]:
        """What a service needs to be armed."""
        path = os.pathsep.join(filter(None, (str(_ARMED), os.environ.get("PYTHONPATH"))))
        return {TRIGGER: str(self._path), "PYTHONPATH": path}

    def arm(self, point: str, victims: int, *, nth: int = 1) -> None:
        """Kill at the ``nth`` time that some process gets there."""
        self._memory[FIRED] = 0
        self._memory[COUNTDOWN] = nth
        self._memory[VICTIMS] = victims
        self._memory[POINT] = index_of(point)

    def disarm(self) -> None:
        """Kill nobody."""
        self._memory[POINT] = 0

    async def fired(self, patience: float) -> bool:
        """Wait until a process got there and is dead; whether that happened in time."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if self._memory[FIRED] and not _runs(int.from_bytes(self._memory[PID], "little")):
                return True
            await asyncio.sleep(0.005)
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._memory.close()


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
