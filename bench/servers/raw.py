"""Floors: one raw ``send()`` for each message and connection, and nothing else."""

from __future__ import annotations

import asyncio

from bench.generator import Program
from bench.install import program
from bench.servers.server import Server, python_program


class RawC(Server):
    """``load/floor.c``: what the load generator is measured against."""

    name = "raw-c"
    _program: Program | None = None

    async def start(self) -> None:
        self._program = await Program.start(program("floor", lambda _: None))
        self.port = (await self._program.answer("listening"))["port"]

    @property
    def serving(self) -> int:
        assert self._program is not None  # noqa: S101 - started
        return self._program.pid

    async def publish(self, count: int, size: int, join: int = 1) -> None:
        """``join`` messages go into one ``send()``."""
        assert self._program is not None  # noqa: S101 - started
        self._program.tell(f"burst 0 {count} {size} {join}")
        await self._program.answer("burst")

    async def stop(self) -> None:
        if self._program is not None:
            await self._program.stop()
            self._program = None


class RawPython(Server):
    """``peers/raw_send.py``: ``socket.send`` in a loop."""

    name = "raw-python"

    async def start(self) -> None:
        await self.run(python_program("bench.peers.raw_send"))
        said = await self.announced()
        self.port = int(said["port"])
        self._control = int(said["control"])

    async def publish(self, count: int, size: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._control)
        writer.write(f"{count} {size}\n".encode())
        await reader.readline()
        writer.close()
