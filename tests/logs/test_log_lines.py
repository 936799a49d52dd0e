import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from pulsetrail.events import CATALOGUE, Event
from pulsetrail.logs import LineFormatter, Sampler, StdoutHandler, configure_logs, log_event, mask, write_to_descriptor
from pulsetrail.metrics import PipelineMetrics

CONNECTION = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


def event(kind: str = "connection.closed", **fields: Any) -> Event:
    return Event(
        **{
            "event_id": UUID(int=1),
            "event_type": kind,
            "schema_version": 1,
            "source": "gateway",
            "occurred_at": 1_800_000_000_123_457,
            "received_at": 1_800_000_000_123_457,
            "shard": 0,
            "connection_id": CONNECTION,
            "payload": b"{}",
            **fields,
        }
    )


class Output:
    """What the process wrote."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()

    def write(self, data: bytes) -> None:
        self.buffer.write(data)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.buffer.getvalue().splitlines()]


@contextmanager
def logging_to(output: Output, level: str = "info") -> Iterator[None]:
    with configure_logs(service="gateway", node="quiet-otter-0", level=level, write=output.write):
        yield
    logging.getLogger().setLevel(logging.WARNING)


def test_an_end_is_one_line_with_its_reason_and_its_own_time() -> None:
    output = Output()
    with logging_to(output):
        log_event(
            event(
                reason="peer_reset",
                close_code=1006,
                payload=b'{"initiator":"unknown","duration_ms":5,"evidence":{"eof":true}}',
            )
        )
    (line,) = output.lines
    assert line["time"] == "2027-01-15T08:00:00.123457+00:00"
    assert (line["event"], line["reason"], line["close_code"]) == ("connection.closed", "peer_reset", 1006)
    assert line["connection_id"] == str(CONNECTION)
    assert (line["service"], line["node"], line["level"]) == ("gateway", "quiet-otter-0", "info")
    assert line["data"] == {"initiator": "unknown", "duration_ms": 5}


def test_only_the_events_that_a_person_wants_to_see_have_a_line() -> None:
    output = Output()
    with logging_to(output):
        for kind in CATALOGUE:
            log_event(event(kind))
    assert {line["event"] for line in output.lines} == {
        "connection.opened",
        "connection.closed",
        "connection.lost",
        "heartbeat.missed",
        "handshake.rejected",
        "broadcast.suspended",
        "broadcast.resumed",
        "node.started",
        "node.stopped",
        "events.dropped",
    }


def test_refusals_are_sampled_so_that_an_attack_cannot_fill_the_disk() -> None:
    output = Output()
    with logging_to(output):
        for _ in range(5000):
            log_event(event("handshake.rejected"))
    assert 1 <= len(output.lines) <= 100


def test_what_the_sampler_skipped_can_be_told() -> None:
    now = 0.0
    sampler = Sampler(2, clock=lambda: now)
    assert [sampler.take() for _ in range(5)] == [True, True, False, False, False]
    now = 1.0
    assert sampler.take()
    assert sampler.skipped() == 3
    assert sampler.skipped() == 0


def test_what_uvicorn_says_has_the_same_form() -> None:
    output = Output()
    with logging_to(output):
        logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    (line,) = output.lines
    assert (line["logger"], line["level"], line["message"]) == (
        "uvicorn.error",
        "warning",
        "Invalid HTTP request received.",
    )


def test_what_alembic_tells_at_every_start_is_no_line_and_its_warnings_are() -> None:
    output = Output()
    with logging_to(output):
        logging.getLogger("alembic.runtime.migration").info("Context impl PostgresqlImpl.")
        logging.getLogger("alembic.runtime.migration").warning("Something is odd.")
    assert [line["message"] for line in output.lines] == ["Something is odd."]


def test_an_exception_is_in_its_line() -> None:
    output = Output()
    with logging_to(output):
        try:
            raise RuntimeError("boom")
        except RuntimeError:
            logging.getLogger("pulsetrail").exception("it failed")
    (line,) = output.lines
    assert "RuntimeError: boom" in line["exception"]


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://user:hunter2@db:5432/x", "postgresql://***@db:5432/x"),
        ("https://1234:hunter2@loki/push failed", "https://***@loki/push failed"),
        ("Authorization: Bearer hunter2.abc", "Authorization: Bearer ***"),
        ("pulsetrail.v1, ticket.hunter2-abc", "pulsetrail.v1, ticket.***"),
        ("POST /v1/telemetry?key=hunter2&x=1", "POST /v1/telemetry?key=***&x=1"),
        ("eyJhbGciOi.eyJzdWIiOi.hunter2", "***"),
        ("mail user@example.com about http://example.com/", "mail user@example.com about http://example.com/"),
    ],
)
def test_credentials_are_masked(text: str, masked: str) -> None:
    assert mask(text) == masked
    output = Output()
    with logging_to(output):
        logging.getLogger("pulsetrail").warning("%s", text)
    assert output.lines[0]["message"] == masked


@given(st.text(), st.text())
def test_no_text_can_fake_a_line_or_move_the_cursor(message: str, detail: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, message.replace("%", "%%"), None, None)
    record.fields = {"detail": detail}
    text = LineFormatter("gateway", "n").line(record).text
    assert all(" " <= char <= "~" for char in text)
    assert json.loads(text)["level"] == "info"


def test_a_payload_that_is_no_json_does_not_lose_the_line() -> None:
    output = Output()
    with logging_to(output):
        log_event(event(payload=b"\xff"))
    assert output.lines[0]["event"] == "connection.closed"


def test_a_blocked_output_never_blocks_the_caller_and_the_lost_lines_are_counted() -> None:
    metrics = PipelineMetrics(CollectorRegistry())
    blocked = threading.Event()
    released = threading.Event()

    def write(data: bytes) -> None:
        blocked.set()
        released.wait(10)

    handler = StdoutHandler(LineFormatter("gateway", "n"), write, metrics, max_lines=10)
    record = logging.LogRecord("x", logging.INFO, "", 0, "m", None, None)
    handler.emit(record)
    assert blocked.wait(10)
    started = time.monotonic()
    for _ in range(1000):
        handler.emit(record)
    assert time.monotonic() - started < 1
    assert metrics.registry.get_sample_value("pulsetrail_log_lines_dropped_total") == 990
    released.set()
    handler.stop()


def test_an_output_that_fails_does_not_end_the_logging() -> None:
    written: list[bytes] = []

    def write(data: bytes) -> None:
        if b"bad" in data:
            raise BrokenPipeError
        written.append(data)

    metrics = PipelineMetrics(CollectorRegistry())
    handler = StdoutHandler(LineFormatter("gateway", "n"), write, metrics)
    dropped = partial(metrics.registry.get_sample_value, "pulsetrail_log_lines_dropped_total")
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "bad", None, None))
    until = time.monotonic() + 10
    while dropped() != 1 and time.monotonic() < until:
        time.sleep(0.01)
    handler.emit(logging.LogRecord("x", logging.INFO, "", 0, "good again", None, None))
    handler.stop()
    assert len(written) == 1
    assert dropped() == 1


def test_a_non_blocking_pipe_gets_every_byte() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    data = b"x" * 1_000_000

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            write_to_descriptor(pipe.fileno())(data)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == data
    thread.join()


def test_when_it_stops_every_queued_line_is_written() -> None:
    output = Output()
    with logging_to(output):
        for number in range(2000):
            logging.getLogger("pulsetrail").info("line %d", number)
    assert [line["message"] for line in output.lines] == [f"line {number}" for number in range(2000)]


def cost_of(call: Callable[[], None], rounds: int = 2000) -> float:
    started = time.thread_time()
    for _ in range(rounds):
        call()
    return (time.thread_time() - started) / rounds


def test_a_line_costs_the_event_loop_microseconds() -> None:
    output = Output()
    unlogged, logged = event("latency.sampled"), event()
    with logging_to(output):
        assert cost_of(lambda: log_event(unlogged)) < 20e-6
        assert cost_of(lambda: log_event(logged)) < 200e-6
