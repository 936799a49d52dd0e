"""The floor of a broadcast in Python: accepted sockets and one ``socket.send`` for each message and connection.

The handshake's answer is a constant, nothing is read after it, no event loop is behind it. It prints the port that it
listens on, and one for the lines ``COUNT SIZE`` that start a broadcast.
"""

from __future__ import annotations

import json
import selectors
import socket

from bench.peers.framing import frame, message

WELCOME = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    control = socket.create_server(("127.0.0.1", 0))
    clients: list[socket.socket] = []
    waiting = selectors.DefaultSelector()
    waiting.register(listener, selectors.EVENT_READ)
    waiting.register(control, selectors.EVENT_READ)
    print(json.dumps({"port": listener.getsockname()[1], "control": control.getsockname()[1]}), flush=True)
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as every server measured does
                waiting.register(client, selectors.EVENT_READ)
            elif key.fileobj is control:
                with control.accept()[0] as asking, asking.makefile("rw") as lines:
                    count, size = map(int, lines.readline().split())
                    broadcast(clients, count, size)
                    lines.write("done\n")
            else:
                client = key.fileobj  # type: ignore[assignment]  # a socket: nothing else was registered
                waiting.unregister(client)
                client.recv(4096)
                client.sendall(WELCOME)
                clients.append(client)


def broadcast(clients: list[socket.socket], count: int, size: int) -> None:
    """A blocking ``send`` of so little either takes all of it or waits."""
    for _ in range(count):
        data = frame(message(size))
        for client in clients:
            client.send(data)


if __name__ == "__main__":
    main()
