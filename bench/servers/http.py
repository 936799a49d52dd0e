"""Just enough HTTP to publish: requests on connections that stay open, one under way on each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

from bench.stage import BenchError


async def post(port: int, path: str, body: str, content_type: str = "application/json") -> str:
    """One request on a connection of its own; returns the answer's body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await _request(reader, writer, path, body, content_type)
    finally:
        writer.close()


async def post_all(
    port: int, path: str, count: int, body: Callable[[], str], *, connections: int, pause: float = 0.0
) -> None:
    """``count`` requests over so many connections, one under way on each, ``pause`` seconds after each answer;
    ``body`` is called when a request is sent.

    Raises:
        BenchError: one was not answered with 2xx.
    """
    numbers = iter(range(count))
    await asyncio.gather(*(_post_some(port, path, numbers, body, pause) for _ in range(connections)))


async def _post_some(port: int, path: str, numbers: Iterator[int], body: Callable[[], str], pause: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for _ in numbers:
            await _request(reader, writer, path, body(), "application/json")
            await asyncio.sleep(pause)
    finally:
        writer.close()


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: str, content_type: str
) -> str:
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
    answer = (await reader.readexactly(int(fields.get("content-length", "0")))).decode()
    if head.split()[1][0] != "2":
        raise BenchError(f"POST {path} was answered with {head.split(chr(13))[0]}: {answer[:200]}")
    return answer


def as_json(answer: str) -> dict[str, object]:
    """An answer's body."""
    found: dict[str, object] = json.loads(answer)
    return found
