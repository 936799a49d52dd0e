"""A small, strict stand-in for Loki's push address that can fail, stall and come back."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """Speaks the JSON push format of Loki 3 and refuses everything that Loki would."""

    def __init__(self) -> None:
        self.status = 204
        self.stall = threading.Event()
        self.requests = 0
        self.headers: dict[str, str] = {}
        self.faults: list[str] = []
        self.streams: dict[tuple[tuple[str, str], ...], list[tuple[int, str, dict[str, str]]]] = {}
        self._arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.take(dict(self.headers), self.path, body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/loki/api/v1/push"

    def take(self, headers: dict[str, str], path: str, body: bytes) -> int:
        if self.stall.is_set():
            with self._arrived:
                self.requests += 1
                self._arrived.notify_all()
                self._arrived.wait_for(lambda: not self.stall.is_set(), 20)
        with self._arrived:
            self.requests += 1
            self.headers = headers
            if self.status == 204:
                try:
                    self._check(headers, path, body)
                except (AssertionError, ValueError, KeyError, TypeError) as fault:
                    self.faults.append(repr(fault))
            self._arrived.notify_all()
            return self.status

    def _check(self, headers: dict[str, str], path: str, body: bytes) -> None:
        assert path == "/loki/api/v1/push", path
        assert headers["Content-Type"] == "application/json"
        assert headers["Content-Encoding"] == "gzip"
        for stream in json.loads(gzip.decompress(body))["streams"]:
            labels = stream["stream"]
            assert labels
            assert all(isinstance(value, str) and value for value in labels.values()), labels
            kept = self.streams.setdefault(tuple(sorted(labels.items())), [])
            for timestamp, line, metadata in stream["values"]:
                assert isinstance(timestamp, str)
                assert timestamp.isdigit()
                assert isinstance(line, str)
                assert all(isinstance(value, str) for value in metadata.values()), metadata
                kept.append((int(timestamp), line, metadata))

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Everything that was taken, parsed, by stream and order of arrival."""
        return [json.loads(line) for values in self.streams.values() for _, line, _ in values]

    def wait(self, *, lines: int = 0, requests: int = 0) -> None:
        """Wait until so much arrived."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self.lines) >= lines and self.requests >= requests, 15)
        assert arrived, f"{len(self.lines)} lines in {self.requests} requests"

    def release(self) -> None:
        """End a stall."""
        with self._arrived:
            self.stall.clear()
            self._arrived.notify_all()

    def close(self) -> None:
        """Stop the server."""
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
