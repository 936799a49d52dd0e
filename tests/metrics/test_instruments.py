import shutil
import subprocess
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from pulsetrail import metrics
from pulsetrail.domain_metrics import domain_families
from pulsetrail.metrics import INSTRUMENTS, PipelineMetrics
from pulsetrail.observer import PipelineObserver
from pulsetrail.projections.figures import DomainFigures, HistogramFigures

FIGURES = DomainFigures(
    connections_opened=12,
    heartbeats_missed=3,
    stale_clients=1,
    flapping_clients=0,
    disconnections={("normal", "client"): 4, ("peer_reset", "unknown"): 2},
    events={"connection.opened": 12},
    handshakes_rejected={"rate_limited": 5},
    reconnects={"peer_reset": 2},
    verdicts={"unknown": 1},
    clients={"quiet-otter-0": 6},
    duration=HistogramFigures([1.0, 60.0], [1, 2, 3], 400.5),
    heartbeat_rtt=HistogramFigures([0.1], [9, 1], 1.5),
    downtime=HistogramFigures([5.0], [0, 0], 0.0),
)


class Domain:
    """What a registry is to the exposition."""

    def __init__(self, figures: DomainFigures) -> None:
        self.figures = figures

    def collect(self) -> list[Metric]:
        return domain_families(self.figures)


def every_call(pipeline: PipelineMetrics) -> None:
    pipeline.journal_committed(5, 0.002)
    pipeline.journal_size(3, 4096, 1.5)
    pipeline.append_finished("appended", 100, 0.01)
    pipeline.events_dropped("detail", "journal_full", 7)
    pipeline.broadcast_finished(0.01)
    pipeline.breaker_changed("open")
    pipeline.loop_lagged(0.001)
    pipeline.loop_tasks(12)
    pipeline.watched(1)
    pipeline.collector_events("accepted", 20)
    pipeline.loki_lines_dropped("queue_full", 2)
    pipeline.log_lines_dropped(1)
    pipeline.projection_measured("connections", 10, 0.5, 0)
    pipeline.contiguity_violated()
    pipeline.partitions_measured(7)


def parsed(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def exposition() -> str:
    registry = CollectorRegistry()
    every_call(PipelineMetrics(registry))
    return (generate_latest(registry) + generate_latest(Domain(FIGURES))).decode()


def test_every_declared_instrument_is_exposed_and_nothing_else() -> None:
    declared = {instrument.name.removesuffix("_total"): instrument.kind for instrument in INSTRUMENTS}
    exposed = {
        family.name: family.type
        for family in text_string_to_metric_families(exposition())
        if not family.name.endswith("_created")
    }
    assert exposed == declared


def test_every_label_that_is_exposed_is_declared() -> None:
    by_name = {instrument.name: instrument for instrument in INSTRUMENTS}
    for family in text_string_to_metric_families(exposition()):
        for sample in family.samples:
            instrument = by_name.get(sample.name)
            if instrument is not None:
                assert set(sample.labels) == set(instrument.labels), sample


def test_the_figures_are_the_ones_that_were_given() -> None:
    samples = parsed(exposition())
    assert samples["ws_updates_disconnections_total", (("initiator", "client"), ("reason", "normal"))] == 4
    assert samples["ws_updates_clients", (("node", "quiet-otter-0"),)] == 6
    assert samples["ws_updates_connection_duration_seconds_bucket", (("le", "60.0"),)] == 3
    assert samples["ws_updates_connection_duration_seconds_bucket", (("le", "+Inf"),)] == 6
    assert samples["ws_updates_connection_duration_seconds_sum", ()] == 400.5
    assert samples["pulsetrail_events_dropped_total", (("class", "detail"), ("reason", "journal_full"))] == 7
    assert samples["pulsetrail_journal_bytes", ()] == 4096
    assert samples["pulsetrail_breaker_state", ()] == 2


def test_counters_start_at_zero_so_that_the_first_increment_shows() -> None:
    registry = CollectorRegistry()
    PipelineMetrics(registry)
    samples = parsed(generate_latest(registry).decode())
    assert samples["pulsetrail_events_dropped_total", (("class", "account"), ("reason", "hole"))] == 0
    assert samples["pulsetrail_collector_events_total", (("outcome", "too_large"),)] == 0


def test_a_gauge_that_was_never_measured_is_absent_rather_than_zero() -> None:
    registry = CollectorRegistry()
    PipelineMetrics(registry)
    assert "pulsetrail_partitions_ahead" not in generate_latest(registry).decode()


@given(st.text(), st.text())
def test_a_label_value_outside_the_closed_list_becomes_other(first: str, second: str) -> None:
    registry = CollectorRegistry()
    pipeline = PipelineMetrics(registry)
    pipeline.events_dropped(first, second, 1)
    pipeline.append_finished(first, 1, 0.1)
    pipeline.collector_events(first)
    pipeline.loki_lines_dropped(first)
    pipeline.projection_measured(first, 0, 0.0, 0)
    figures = DomainFigures(
        disconnections={(first, second): 1},
        handshakes_rejected={first: 1},
        reconnects={first: 1},
        clients={first + "\n": 1},
    )
    closed = {value for instrument in INSTRUMENTS for values in instrument.labels.values() for value in values}
    for family in [*registry.collect(), *domain_families(figures)]:
        for sample in family.samples:
            assert {value for label, value in sample.labels.items() if label != "le"} <= closed, sample


def test_unknown_reasons_are_summed_rather_than_written_twice() -> None:
    figures = DomainFigures(disconnections={("made up", "client"): 2, ("another", "client"): 3})
    samples = parsed(generate_latest(Domain(figures)).decode())
    assert samples["ws_updates_disconnections_total", (("initiator", "client"), ("reason", "other"))] == 5


def test_any_thread_may_report() -> None:
    registry = CollectorRegistry()
    pipeline: PipelineObserver = PipelineMetrics(registry)

    def report() -> None:
        for _ in range(500):
            pipeline.journal_committed(1, 0.001)

    threads = [threading.Thread(target=report) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert parsed(generate_latest(registry).decode())["pulsetrail_journal_commit_seconds_count", ()] == 2000


def test_the_names_follow_prometheus_conventions() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH")
    # prometheus_client's own `_created` gauges are left out of snapshots, so they are left out here too.
    text = "".join(line for line in exposition().splitlines(keepends=True) if "_created" not in line)
    result = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_histogram_has_ascending_bounds() -> None:
    for instrument in INSTRUMENTS:
        assert list(instrument.bounds) == sorted(set(instrument.bounds)), instrument.name
    assert metrics.BREAKER_STATES.index("open") == 2
