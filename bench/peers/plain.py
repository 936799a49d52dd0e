"""The service that most people would write: FastAPI, a decorated WebSocket endpoint, stock uvicorn with uvloop.

``/ws`` accepts and reads, ``/heartbeat`` does what is needed to know that a client is there, with a task and a timer
for each connection; the program's argument is the time between two heartbeats in seconds. Access logs and uvicorn's own
pings are off, which is in its favour: neither is needed here.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from bench.peers.framing import message

HEARTBEAT_SECONDS = float(sys.argv[1])

app = FastAPI()
clients: set[WebSocket] = set()


@app.websocket("/ws")
async def updates(client: WebSocket) -> None:
    await client.accept()
    clients.add(client)
    try:
        while True:
            await client.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        clients.discard(client)


@app.websocket("/heartbeat")
async def heartbeat(client: WebSocket) -> None:
    await client.accept()
    beating = asyncio.create_task(beat(client))
    try:
        while True:
            await client.receive_json()
    except WebSocketDisconnect:
        pass
    finally:
        beating.cancel()


async def beat(client: WebSocket) -> None:
    seq = 0
    while True:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        seq += 1
        await client.send_json({"type": "heartbeat", "seq": seq, "time": time.time_ns() // 1_000_000})


@app.post("/burst")
async def burst(count: int, size: int) -> None:
    for _ in range(count):
        text = message(size)
        for client in tuple(clients):
            await client.send_text(text)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(app, loop="uvloop", log_level="warning", access_log=False, ws_ping_interval=None)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
