"""Structured logs: one JSON object a line on standard output, written by a thread.

Standard output can block for as long as a terminal or a pipe's reader likes; the event loop only puts records into a
bounded queue, and what does not fit is counted and gone. Of the events some have a line (``log_event``): one at the
open of a connection, one at its end, one for each missed heartbeat, never one for a message. The log is the truth,
these lines are for a person who looks.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import msgspec

from pulsetrail.close_codes import Reason
from pulsetrail.events import Event
from pulsetrail.observer import LogLinesObserver

QUEUE_LINES: Final = 10_000
GATHER_SECONDS: Final = 0.02
LINES_AT_ONCE: Final = 256
NO_EVENT: Final = "log"
"""The value of ``event`` in the labels of lines that are not about an event."""

_LEVEL_OF: Final = {
    "connection.opened": logging.INFO,
    "connection.closed": logging.INFO,
    "connection.lost": logging.WARNING,
    "heartbeat.missed": logging.INFO,
    "handshake.rejected": logging.WARNING,
    "broadcast.suspended": logging.ERROR,
    "broadcast.resumed": logging.WARNING,
    "node.started": logging.INFO,
    "node.stopped": logging.INFO,
    "events.dropped": logging.ERROR,
}
"""The events that have a line, and its level."""
_NOT_IN_LINES: Final = ("evidence", "tcp")
"""Parts of a payload that are for programs; the log has them."""
_REASONS: Final = frozenset(map(str, Reason))
_MASKS: Final = (
    (("://",), re.compile(r"(?<=://)[^/\s\"'@]+@"), "***@"),  # user:password@host
    (("bearer ", "ticket."), re.compile(r"(?i)\b(bearer |ticket\.)[\w.~+/=-]+"), r"\1***"),
    (
        ("key=", "token=", "password=", "secret=", "ticket="),
        re.compile(r"(?i)\b((?:key|token|password|secret|ticket)=)[^&\s\"'\\]+"),
        r"\1***",
    ),
    (("eyj",), re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), "***"),  # a JWT
)
"""What credentials look like. Without one of the words before it (in lower case) a pattern cannot match, and to see
that costs a thirtieth of trying it: 2 us a line instead of 70."""

_events = logging.getLogger("pulsetrail.events")


class Line(NamedTuple):
    """One line, and what Loki wants to know beside it."""

    time_us: int
    level: str
    text: str
    event: str
    reason: str | None
    ids: dict[str, str]


class Sampler:
    """At most ``per_second`` a second; for lines that a hostile sender can cause."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._second = 0
        self._taken = 0
        self._skipped = 0

    def take(self) -> bool:
        """Whether this one is within the rate."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._taken = second, 0
        if self._taken < self._per_second:
            self._taken += 1
            return True
        self._skipped += 1
        return False

    def skipped(self) -> int:
        """How many were not taken since this was last asked."""
        skipped, self._skipped = self._skipped, 0
        return skipped


_rejections = Sampler(per_second=10)


def log_event(event: Event) -> None:
    """Write the line of an event, if its type has one. Cheap: the formatting is the thread's work."""
    level = _LEVEL_OF.get(event.event_type)
    if level is None or not _events.isEnabledFor(level):
        return
    skipped = 0
    if event.event_type == "handshake.rejected":
        if not _rejections.take():
            return
        skipped = _rejections.skipped()
    record = logging.LogRecord(_events.name, level, "", 0, event.event_type, None, None)
    record.event = event
    if skipped:
        record.fields = {"not_logged": skipped}
    _events.handle(record)


def mask(text: str) -> str:
    """The text without credentials: those of URLs, bearer tokens, tickets, keys in queries."""
    lowered = text.lower()
    for words, pattern, replacement in _MASKS:
        if any(word in lowered for word in words):
            text = pattern.sub(replacement, text)
    return text


class LineFormatter:
    """Log records to lines; used on the writing threads."""

    def __init__(self, service: str, node: str) -> None:
        """``service`` is the role, such as ``gateway``; ``node`` the node's or the process's name."""
        self._service = service
        self._node = node
        self._plain = logging.Formatter()

    def line(self, record: logging.LogRecord) -> Line:
        """The line of a record; total: what cannot be encoded is written as its ``str()``."""
        event: Event | None = getattr(record, "event", None)
        level = record.levelname.lower()
        if event is None:
            time_us = round(record.created * 1e6)
            fields: dict[str, Any] = {"logger": record.name, "message": record.getMessage()}
            if record.exc_info:
                fields["exception"] = self._plain.formatException(record.exc_info)
            name, reason, ids = NO_EVENT, None, {}
        else:
            time_us, name, reason = event.occurred_at, event.event_type, event.reason
            ids = _ids(event)
            fields = {"event": name, "reason": reason, "close_code": event.close_code, **ids, "data": _data(event)}
        fields.update(getattr(record, "fields", {}))
        stamp = datetime.fromtimestamp(time_us / 1e6, UTC).isoformat(timespec="microseconds")
        opening = {"time": stamp, "level": level, "service": self._service, "node": self._node}
        body = {**opening, **{key: value for key, value in fields.items() if value is not None}}
        # Everything beyond ASCII is escaped, so that no text can move a terminal's cursor or fake a line.
        text = mask(_dump(body)).replace("\x7f", "\\u007f")
        return Line(time_us, level, text, name, reason if reason is None or reason in _REASONS else "other", ids)


def _dump(body: dict[str, Any]) -> str:
    try:
        dumped = msgspec.json.encode(body)
    except (TypeError, ValueError):  # an object that JSON has no word for, or half of a surrogate pair
        dumped = b"\xff"
    if dumped.isascii():
        return dumped.decode()
    return json.dumps(body, default=str, separators=(",", ":"))


def _ids(event: Event) -> dict[str, str]:
    ids = {
        "connection_id": event.connection_id,
        "client_ref": event.client_ref,
        "page_id": event.page_id,
        "event_id": event.event_id,
        "node_epoch": event.node_epoch,
    }
    return {name: str(value) for name, value in ids.items() if value is not None}


def _data(event: Event) -> Any:
    try:
        data = msgspec.json.decode(event.payload)
    except msgspec.DecodeError:
        return None
    if isinstance(data, dict):
        for name in _NOT_IN_LINES:
            data.pop(name, None)
    return data or None


def write_to_descriptor(descriptor: int) -> Callable[[bytes], None]:
    """A blocking write to a file descriptor.

    Not ``sys.stdout``: a thread that is blocked in it holds its lock, and the interpreter aborts over that at exit.
    """

    def write(data: bytes) -> None:
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # somebody made the terminal non-blocking
                select.select((), (descriptor,), ())

    return write


class StdoutHandler(logging.Handler):
    """Queues records for a thread of its own, which writes them as lines."""

    def __init__(
        self,
        formatter: LineFormatter,
        write: Callable[[bytes], None],
        metrics: LogLinesObserver | None = None,
        *,
        max_lines: int = QUEUE_LINES,
    ) -> None:
        super().__init__()
        self._line = formatter.line
        self._write = write
        self._metrics = metrics
        self._max_lines = max_lines
        self._queue: deque[logging.LogRecord] = deque()
        self._filled = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log lines", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks."""
        if len(self._queue) >= self._max_lines:
            self._dropped(1)
            return
        self._queue.append(record)
        if not self._filled.is_set():
            self._filled.set()

    def _dropped(self, count: int) -> None:
        if self._metrics is not None:
            self._metrics.log_lines_dropped(count)

    def _run(self) -> None:
        while True:
            self._filled.wait()
            # A thread that wakes for every line trades the interpreter lock with a busy event loop at every line.
            self._stopping.wait(GATHER_SECONDS)
            self._filled.clear()
            self._write_queued()
            if self._stopping.is_set():
                return

    def _write_queued(self) -> None:
        while self._queue:
            lines: list[str] = []
            while self._queue and len(lines) < LINES_AT_ONCE:
                try:
                    lines.append(self._line(self._queue.popleft()).text)
                except Exception:  # noqa: BLE001, RUF100 - a logger that dies of one line logs nothing afterwards
                    self._dropped(1)
            try:
                self._write("".join(f"{line}\n" for line in lines).encode())
            except OSError:
                self._dropped(len(lines))

    def stop(self, seconds: float = 2.0) -> None:
        """Write what is queued, for at most ``seconds``."""
        self._stopping.set()
        self._filled.set()
        self._thread.join(seconds)


class Logs:
    """The process's logs, from ``configure_logs`` until ``close``."""

    def __init__(self, handlers: list[logging.Handler], stops: list[Callable[[], None]]) -> None:
        self._handlers = handlers
        self._stops = stops

    def close(self) -> None:
        """Take the handlers away and write what is queued, for a bounded time."""
        for handler in self._handlers:
            logging.getLogger().removeHandler(handler)
        for stop in self._stops:
            stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def configure_logs(
    *,
    service: str,
    node: str,
    level: str = "info",
    loki_url: str | None = None,
    loki_queue: int = QUEUE_LINES,
    metrics: LogLinesObserver | None = None,
    write: Callable[[bytes], None] | None = None,
) -> Logs:
    """Send this process's logs, uvicorn's included, to standard output and, with ``loki_url``, to Loki.

    ``service`` and ``node`` are in each line; ``level`` is a name of ``logging`` in lower case.
    """
    formatter = LineFormatter(service, node)
    stdout = StdoutHandler(
        formatter, write or write_to_descriptor(sys.__stdout__.fileno() if sys.__stdout__ else 1), metrics
    )
    handlers: list[logging.Handler] = [stdout]
    stops: list[Callable[[], None]] = [stdout.stop]
    if loki_url is not None:
        # Here: requests and urllib3 are of use only to those who have a Loki, and loki.py builds on this module.
        from pulsetrail.loki import LokiHandler

        loki = LokiHandler(loki_url, formatter, metrics, service=service, node=node, max_lines=loki_queue)
        handlers.append(loki)
        stops.append(loki.stop)
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # urllib3 and asyncio have a debug line or more for a request, some of them for the one that carries the lines;
    # Alembic tells at every start that it looked.
    for name in ("urllib3", "asyncio", "alembic"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]))
    return Logs(handlers, stops)
