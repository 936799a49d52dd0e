"""npm ``ws`` on Node (``peers/ws.mjs``)."""

from __future__ import annotations

import json
import subprocess

from bench.install import PEERS, npm_packages
from bench.servers.http import post
from bench.servers.server import Server


class Ws(Server):
    """A ``WebSocketServer`` as its documentation shows it."""

    name = "ws"

    async def start(self) -> None:
        npm_packages(lambda _: None)
        await self.run(["node", PEERS / "ws.mjs"])
        self.port = int((await self.announced())["port"])

    async def publish(self, count: int, size: int) -> None:
        await post(self.port, f"/burst?count={count}&size={size}", "")

    @staticmethod
    def versions() -> dict[str, str]:
        """Of Node and ``ws``."""
        package = json.loads((PEERS / "node_modules" / "ws" / "package.json").read_text(encoding="utf-8"))
        node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
        return {"ws": package["version"], "node": node.strip().removeprefix("v")}
