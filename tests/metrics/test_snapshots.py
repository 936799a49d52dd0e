import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from pulsetrail.domain_metrics import domain_families
from pulsetrail.metrics import PipelineMetrics
from pulsetrail.metrics_snapshot import SnapshotReader, SnapshotWriter, sample_loop
from pulsetrail.projections.figures import DomainFigures


def process(directory: Path, name: str) -> tuple[PipelineMetrics, SnapshotWriter]:
    registry = CollectorRegistry()
    return PipelineMetrics(registry), SnapshotWriter(directory, name, registry, interval=0.01)


def scraped(reader: SnapshotReader) -> list[tuple[str, dict[str, str], float]]:
    body, _ = reader.render("")
    return [
        (sample.name, sample.labels, sample.value) for family in parse_plain(body.decode()) for sample in family.samples
    ]


def test_one_scrape_answers_for_every_process(tmp_path: Path) -> None:
    for number in range(3):
        pipeline, writer = process(tmp_path, f"gateway-{number}")
        pipeline.collector_events("accepted", number + 1)
        writer.write()

    accepted = {
        labels["process"]: value
        for name, labels, value in scraped(SnapshotReader(tmp_path))
        if name == "pulsetrail_collector_events_total" and labels["outcome"] == "accepted"
    }

    assert accepted == {"gateway-0": 1, "gateway-1": 2, "gateway-2": 3}


def test_the_domain_appears_once_without_a_process_also_while_two_projectors_claim_it(tmp_path: Path) -> None:
    for number, opened in ((0, 41), (1, 42)):
        _, writer = process(tmp_path, f"projector-{number}")
        writer.publish(domain_families(DomainFigures(connections_opened=opened)))
        writer.write()

    samples = scraped(SnapshotReader(tmp_path))

    assert [(labels, value) for name, labels, value in samples if name == "ws_updates_connections_opened_total"] == [
        ({}, 42)
    ]


def test_a_projector_that_lost_the_lock_exports_the_domain_no_more(tmp_path: Path) -> None:
    _, writer = process(tmp_path, "projector")
    writer.publish(domain_families(DomainFigures(connections_opened=1)))
    writer.write()
    writer.publish(None)
    writer.write()
    assert not [name for name, _, _ in scraped(SnapshotReader(tmp_path)) if name.startswith("ws_updates")]


@pytest.mark.parametrize("now", [lambda: time.monotonic() + 6, lambda: time.monotonic() - 100])
def test_a_process_that_writes_no_more_vanishes_also_after_a_reboot(tmp_path: Path, now: Callable[[], float]) -> None:
    _, writer = process(tmp_path, "gateway-0")
    writer.write()
    assert scraped(SnapshotReader(tmp_path))
    assert scraped(SnapshotReader(tmp_path, clock=now)) == []


def test_a_damaged_snapshot_is_left_out(tmp_path: Path) -> None:
    _, writer = process(tmp_path, "gateway-0")
    writer.write()
    (tmp_path / "gateway-1.snapshot").write_bytes(b"\x94 not a snapshot")
    assert {labels.get("process") for _, labels, _ in scraped(SnapshotReader(tmp_path))} == {"gateway-0"}


@pytest.mark.parametrize("name", ["", "../etc", 'a"b', "gateway\n0"])
def test_a_process_cannot_be_named_so_that_it_leaves_the_directory_or_the_label(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="label"):
        SnapshotWriter(tmp_path, name, CollectorRegistry())


@given(st.text(max_size=60))
def test_whatever_is_accepted_the_answer_is_one_of_the_two_formats(accept: str) -> None:
    body, content_type = SnapshotReader(Path("/nonexistent")).render(accept)
    assert content_type.startswith(("text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"))
    assert body in (b"", b"# EOF\n")


def test_both_formats_parse_and_say_the_same(tmp_path: Path) -> None:
    pipeline, writer = process(tmp_path, "gateway-0")
    pipeline.journal_committed(1, 0.01)
    pipeline.journal_size(1, 4096, 0.1)
    writer.publish(domain_families(DomainFigures(connections_opened=3, disconnections={("normal", "client"): 1})))
    writer.write()
    reader = SnapshotReader(tmp_path)

    plain, _ = reader.render("text/plain;version=0.0.4")
    openmetrics, content_type = reader.render("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")

    assert content_type.startswith("application/openmetrics-text")

    def keyed(families: Iterable[Metric]) -> dict[str, float]:
        return {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for family in families
            for sample in family.samples
        }

    assert keyed(parse_plain(plain.decode())) == keyed(
        parse_openmetrics(openmetrics.decode())  # type: ignore[no-untyped-call]  # not annotated upstream
    )


def test_promtool_finds_nothing_wrong_with_a_scrape(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH")
    for name in ("gateway-0", "gateway-1"):
        pipeline, writer = process(tmp_path, name)
        pipeline.journal_size(1, 4096, 0.1)
        pipeline.journal_committed(1, 0.01)
        writer.write()
    body, _ = SnapshotReader(tmp_path).render("")
    result = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_scrape_of_many_processes_is_fast(tmp_path: Path) -> None:
    for number in range(20):
        pipeline, writer = process(tmp_path, f"gateway-{number}")
        pipeline.journal_committed(1, 0.01)
        pipeline.append_finished("appended", 1, 0.1)
        pipeline.broadcast_finished(0.1)
        pipeline.loop_lagged(0.1)
        writer.write()
    reader = SnapshotReader(tmp_path)
    started = time.process_time()
    reader.render("")
    assert time.process_time() - started < 0.5


async def test_a_running_writer_renews_the_file_and_takes_it_away_when_it_stops(tmp_path: Path) -> None:
    pipeline, writer = process(tmp_path, "gateway-0")
    running = asyncio.create_task(writer.run())
    sampling = asyncio.create_task(sample_loop(pipeline, interval=0.005))
    reader = SnapshotReader(tmp_path)

    def lags() -> float:
        return sum(value for name, _, value in scraped(reader) if name.endswith("loop_lag_seconds_count"))

    async with asyncio.timeout(10):
        while lags() < 3:
            await asyncio.sleep(0.01)
    tasks = [value for name, _, value in scraped(reader) if name == "pulsetrail_event_loop_tasks"]
    assert tasks == [len(asyncio.all_tasks())]
    for task in (sampling, running):
        task.cancel()
    await asyncio.gather(sampling, running, return_exceptions=True)

    assert reader.snapshots() == []
    writer.write()  # as a write would that was still in its thread
    assert reader.snapshots() == []
