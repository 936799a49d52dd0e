"""Log lines to Loki: loki-logger-handler's request and stream format, behind a bounded queue.

Its own handler has an unbounded queue, stamps a line with a rounded time, waits for an answer without end and drops a
batch that failed. So only its parts are used: what is queued here stays until Loki has it, refuses it for good, or it
makes room for newer lines, which is counted. The log, not Loki, is the truth.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from itertools import islice
from typing import Any, Final

from loki_logger_handler.loki_request import LokiRequest
from loki_logger_handler.stream import Stream
from loki_logger_handler.streams import Streams
from requests import PreparedRequest, RequestException, Response
from requests.adapters import HTTPAdapter

from pulsetrail.events import CATALOGUE
from pulsetrail.logs import NO_EVENT, Line, LineFormatter
from pulsetrail.observer import LogLinesObserver

BATCH_LINES: Final = 500
TIMEOUT_SECONDS: Final = (3.0, 10.0)
"""To connect, and to answer."""
FIRST_BACKOFF_SECONDS: Final = 0.5
MAX_BACKOFF_SECONDS: Final = 30.0
GATHER_SECONDS: Final = 0.5
"""How long a first line waits for company."""

_REFUSED: Final = frozenset((400, 413, 422))
"""Answers that the same lines would get again; after 400 Loki has kept those that it liked."""
_NOT_FOR_LOKI: Final = ("pulsetrail.loki", "urllib3")
"""Lines about sending lines would cause more of them."""

logger = logging.getLogger("pulsetrail.loki")


class _BoundedAdapter(HTTPAdapter):
    """Gives each request a timeout; the library's gives none."""

    def send(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Response:
        kwargs["timeout"] = TIMEOUT_SECONDS
        return super().send(request, *args, **kwargs)


class LokiHandler(logging.Handler):
    """Queues records for a thread of its own, which sends them."""

    def __init__(
        self,
        url: str,
        formatter: LineFormatter,
        metrics: LogLinesObserver | None = None,
        *,
        service: str,
        node: str,
        max_lines: int = 10_000,
        gather_seconds: float = GATHER_SECONDS,
        first_backoff_seconds: float = FIRST_BACKOFF_SECONDS,
    ) -> None:
        """``url`` is Loki's push address; user and password in it become basic authentication."""
        super().__init__()
        self._line = formatter.line
        self._metrics = metrics
        self._labels = {"service": service, "node": node}
        self._max_lines = max_lines
        self._gather_seconds = gather_seconds
        self._first_backoff_seconds = first_backoff_seconds
        self._request = LokiRequest(url, compressed=True)
        for scheme in ("http://", "https://"):
            self._request.session.mount(scheme, _BoundedAdapter())
        self._waiting: deque[logging.LogRecord] = deque()
        self._under_way = 0
        self._changed = threading.Condition()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="loki", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks; when the queue is full its oldest line that is not being sent goes."""
        if record.name.startswith(_NOT_FOR_LOKI):
            return
        dropped = 0
        with self._changed:
            self._waiting.append(record)
            while len(self._waiting) + self._under_way > self._max_lines and self._waiting:
                self._waiting.popleft()
                dropped += 1
            self._changed.notify()
        if dropped:
            self._dropped("queue_full", dropped)

    def stop(self, seconds: float = 2.0) -> None:
        """Send what is queued, for at most ``seconds``; the rest is counted as dropped."""
        with self._changed:
            self._deadline = time.monotonic() + seconds
            self._changed.notify()
        self._thread.join(seconds + 0.1)
        with self._changed:
            left = len(self._waiting) + self._under_way
            self._waiting.clear()
        if left:
            self._dropped("stopped", left)

    def _dropped(self, reason: str, count: int) -> None:
        if self._metrics is not None:
            self._metrics.loki_lines_dropped(reason, count)

    def _run(self) -> None:
        while (batch := self._next_batch()) and self._deliver(batch):
            with self._changed:
                self._under_way = 0

    def _next_batch(self) -> list[logging.LogRecord]:
        """The oldest lines; empty when the handler stops."""
        with self._changed:
            while not self._waiting:
                if self._deadline is not None:
                    return []
                self._changed.wait()
            if len(self._waiting) < BATCH_LINES and self._deadline is None:
                self._changed.wait_for(
                    lambda: len(self._waiting) >= BATCH_LINES or self._deadline is not None, self._gather_seconds
                )
            size = min(BATCH_LINES, max(1, self._max_lines // 2), len(self._waiting))
            batch = list(islice(self._waiting, size))
            for _ in batch:
                self._waiting.popleft()
            self._under_way = len(batch)
            return batch

    def _deliver(self, batch: list[logging.LogRecord]) -> bool:
        """Send a batch until Loki takes or refuses it; ``False`` when the handler stops before."""
        body = self._serialised(batch)
        backoff = self._first_backoff_seconds
        failing = False
        while True:
            try:
                self._request.send(body)
            except RequestException as error:
                status = _status_of(error)
                if status in _REFUSED:
                    logger.warning("Loki refused %d lines with status %d", len(batch), status)
                    self._dropped("refused", len(batch))
                    return True
                if not failing:
                    failing = True
                    logger.warning("Loki does not take lines: %s", _summary_of(error, status))
            else:
                if failing:
                    logger.warning("Loki takes lines again")
                return True
            if self._wait(backoff * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
                return False
            backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)

    def _wait(self, seconds: float) -> bool:
        """Wait between two tries; whether the time to stop has come."""
        with self._changed:
            self._changed.wait_for(lambda: self._deadline is not None, seconds)
            return self._deadline is not None

    def _serialised(self, batch: list[logging.LogRecord]) -> str:
        """Loki's JSON push format: a stream for each set of labels, lines in their order."""
        streams: dict[tuple[str, str, str], Stream] = {}
        for record in batch:
            line = self._line(record)
            key = (line.event, line.reason or "", line.level)
            if key not in streams:
                streams[key] = Stream(self._labels_of(line))
            # Not Stream.append_value: it multiplies a float, and a line would be up to 200 ns off and out of order.
            streams[key].values.append([str(line.time_us * 1000), line.text, line.ids])
        body: str = Streams(list(streams.values())).serialize()
        return body

    def _labels_of(self, line: Line) -> dict[str, str]:
        event = line.event if line.event in CATALOGUE or line.event == NO_EVENT else "other"
        labels = {**self._labels, "event": event, "level": line.level}
        if line.reason is not None:
            labels["reason"] = line.reason
        return labels


def _status_of(error: RequestException) -> int | None:
    """The status of Loki's answer, if there was one; the library hides it in the cause."""
    response = getattr(error.__cause__, "response", None)
    return None if response is None else response.status_code


def _summary_of(error: RequestException, status: int | None) -> str:
    """Why it failed, without the address: that may hold credentials."""
    return f"status {status}" if status is not None else type(error.__cause__ or error).__name__
