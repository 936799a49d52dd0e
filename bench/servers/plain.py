"""Plain FastAPI on stock uvicorn with uvloop (``peers/plain.py``)."""

from __future__ import annotations

from pathlib import Path

from bench.servers.http import post
from bench.servers.server import Server, python_program


class PlainFastApi(Server):
    """A decorated endpoint; at ``/heartbeat`` with a task and a timer for each connection."""

    name = "fastapi"

    def __init__(self, scratch: Path, heartbeat: float = 30.0) -> None:
        """``heartbeat`` is the time in seconds between two heartbeats of one connection."""
        super().__init__(scratch)
        self._heartbeat = heartbeat

    async def start(self) -> None:
        await self.run([*python_program("bench.peers.plain"), str(self._heartbeat)])
        self.port = int((await self.announced())["port"])

    async def publish(self, count: int, size: int) -> None:
        await post(self.port, f"/burst?count={count}&size={size}", "")
