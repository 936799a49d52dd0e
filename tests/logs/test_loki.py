import logging
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from loki_receiver import Receiver
from prometheus_client import CollectorRegistry

from pulsetrail.events import Event
from pulsetrail.logs import LineFormatter, configure_logs, log_event
from pulsetrail.loki import LokiHandler
from pulsetrail.metrics import PipelineMetrics

Make = Callable[..., LokiHandler]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def metrics() -> PipelineMetrics:
    return PipelineMetrics(CollectorRegistry())


@pytest.fixture
def make(receiver: Receiver, metrics: PipelineMetrics) -> Iterator[Make]:
    """Makes handlers that send to the receiver at once."""
    handlers: list[LokiHandler] = []

    def make(url: str | None = None, **options: Any) -> LokiHandler:
        handler = LokiHandler(
            url or receiver.url,
            LineFormatter("gateway", "otter"),
            metrics,
            service="gateway",
            node="otter",
            **{"gather_seconds": 0.01, "first_backoff_seconds": 0.02, **options},
        )
        handlers.append(handler)
        return handler

    yield make
    receiver.release()
    for handler in handlers:
        handler.stop(0.5)


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("pulsetrail", logging.INFO, "", 0, message, None, None)


def dropped(metrics: PipelineMetrics, reason: str) -> float:
    value = metrics.registry.get_sample_value("pulsetrail_loki_lines_dropped_total", {"reason": reason})
    assert value is not None
    return value


def messages(receiver: Receiver) -> list[str]:
    return [line["message"] for line in receiver.lines]


def test_an_event_has_its_own_time_to_the_microsecond_few_labels_and_its_ids_beside(
    receiver: Receiver, metrics: PipelineMetrics
) -> None:
    connection = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    closed = Event(
        event_id=UUID(int=7),
        event_type="connection.closed",
        schema_version=1,
        source="gateway",
        occurred_at=1_800_000_000_123_457,
        received_at=1_800_000_000_123_457,
        shard=0,
        connection_id=connection,
        page_id="page-1",
        reason="peer_reset",
    )
    with configure_logs(
        service="gateway", node="otter", loki_url=receiver.url, metrics=metrics, write=lambda data: None
    ):
        log_event(closed)
    receiver.wait(lines=1)

    assert receiver.faults == []
    ((labels, values),) = receiver.streams.items()
    assert dict(labels) == {
        "service": "gateway",
        "node": "otter",
        "event": "connection.closed",
        "reason": "peer_reset",
        "level": "info",
    }
    ((timestamp, _, metadata),) = values
    assert timestamp == 1_800_000_000_123_457_000
    assert metadata == {"connection_id": str(connection), "page_id": "page-1", "event_id": str(UUID(int=7))}


def test_lines_arrive_in_their_order(receiver: Receiver, make: Make) -> None:
    handler = make()
    for number in range(2000):
        handler.emit(record(f"{number}"))
    receiver.wait(lines=2000)
    assert messages(receiver) == [f"{number}" for number in range(2000)]
    (values,) = receiver.streams.values()
    assert [timestamp for timestamp, _, _ in values] == sorted(timestamp for timestamp, _, _ in values)
    assert receiver.faults == []


@pytest.mark.parametrize("status", [500, 503, 429, 401])
def test_what_was_sent_while_loki_failed_arrives_when_it_is_back(
    receiver: Receiver, make: Make, metrics: PipelineMetrics, status: int
) -> None:
    receiver.status = status
    handler = make()
    for number in range(20):
        handler.emit(record(f"{number}"))
    receiver.wait(requests=3)
    receiver.status = 204
    receiver.wait(lines=20)
    assert messages(receiver) == [f"{number}" for number in range(20)]
    assert dropped(metrics, "queue_full") == 0


def test_while_loki_is_away_the_oldest_lines_make_room_and_are_counted(
    receiver: Receiver, make: Make, metrics: PipelineMetrics
) -> None:
    receiver.status = 503
    handler = make(max_lines=100)
    for number in range(1000):
        handler.emit(record(f"{number}"))
    receiver.wait(requests=2)
    receiver.status = 204
    receiver.wait(lines=100)
    lost = dropped(metrics, "queue_full")
    assert lost == 900
    kept = [int(message) for message in messages(receiver)]
    assert kept == sorted(kept)
    assert kept[-50:] == list(range(950, 1000))


def test_a_stalled_loki_holds_up_nobody(receiver: Receiver, make: Make) -> None:
    receiver.stall.set()
    handler = make()
    handler.emit(record("first"))
    receiver.wait(requests=1)
    started = time.monotonic()
    for number in range(5000):
        handler.emit(record(f"{number}"))
    assert time.monotonic() - started < 1
    receiver.release()
    receiver.wait(lines=5001)
    assert receiver.faults == []


def test_a_stalled_loki_is_given_up_after_a_bounded_time(
    receiver: Receiver, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulsetrail.loki.TIMEOUT_SECONDS", (0.2, 0.2))
    receiver.stall.set()
    handler = make()
    handler.emit(record("m"))
    receiver.wait(requests=3)
    receiver.release()
    receiver.wait(lines=1)


def test_a_batch_that_loki_will_never_take_is_counted_and_does_not_hold_up_the_next(
    receiver: Receiver, make: Make, metrics: PipelineMetrics
) -> None:
    receiver.status = 400
    handler = make()
    handler.emit(record("bad"))
    receiver.wait(requests=1)
    receiver.status = 204
    handler.emit(record("good"))
    receiver.wait(lines=1)
    assert messages(receiver) == ["good"]
    assert dropped(metrics, "refused") == 1


def test_a_loki_that_is_not_there_yet_gets_the_lines_when_it_is(receiver: Receiver, make: Make) -> None:
    handler = make()
    receiver.status = 503
    handler.emit(record("early"))
    receiver.wait(requests=1)
    receiver.status = 204
    receiver.wait(lines=1)


def test_credentials_of_the_url_authenticate_and_appear_in_no_line(
    receiver: Receiver, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    handler = make(receiver.url.replace("http://", "http://tenant:hunter2@"))
    receiver.status = 401
    handler.emit(record("m"))
    receiver.wait(requests=2)
    receiver.status = 204
    receiver.wait(lines=1)
    assert receiver.headers["Authorization"].startswith("Basic ")
    assert "Loki does not take lines: status 401" in caplog.text
    assert "hunter2" not in caplog.text


def test_the_lines_about_loki_do_not_go_to_loki(receiver: Receiver, make: Make) -> None:
    handler = make()
    handler.emit(logging.LogRecord("pulsetrail.loki", logging.WARNING, "", 0, "Loki is away", None, None))
    handler.emit(logging.LogRecord("urllib3.connectionpool", logging.DEBUG, "", 0, "POST", None, None))
    handler.emit(record("m"))
    receiver.wait(lines=1)
    assert messages(receiver) == ["m"]


def test_when_it_stops_it_sends_what_it_can_and_counts_the_rest(
    receiver: Receiver, make: Make, metrics: PipelineMetrics
) -> None:
    sending = make(gather_seconds=60)
    sending.emit(record("last"))
    sending.stop(5)
    assert messages(receiver) == ["last"]

    receiver.status = 503
    failing = make()
    for number in range(10):
        failing.emit(record(f"{number}"))
    failing.stop(5)
    assert dropped(metrics, "stopped") == 10
