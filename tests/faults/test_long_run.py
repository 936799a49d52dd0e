"""What a long run makes of its samples: a leak is seen, noise is not, and nothing passes for want of samples."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from long_run_figures import FIGURES, KEPT_SECONDS, Sample, cpu_shares, slope, trends
from long_run_pages import RunReport, page

from bench.results import Machine

MINUTES = 30.0
SECONDS = MINUTES * 60
MIB = 2**20
LEAK = 100 * 10_000 * 0.2 / 60
"""Bytes a second, when each of the connections that come and go leaves a hundred of them behind."""


def samples(process: str = "gateway-0", *, leak: float = 0.0, journal_leak: float = 0.0) -> Iterator[Sample]:
    """A process that warms up for ten minutes, then makes noise and leaks ``leak`` bytes of memory a second."""
    chance = random.Random(1)
    for second in range(0, int(SECONDS), 5):
        warm = 90 * MIB + min(second, 600) * 40_000
        yield Sample(
            seconds=second,
            process=process,
            memory_bytes=int(warm + leak * second + chance.gauss(0, 200_000)),
            descriptors=5_000 + chance.randint(-40, 40),
            cpu_seconds=second * 0.2,
            tasks=15 + chance.randint(-2, 2),
            journal_bytes=min(second, 900) * 20_000 + journal_leak * second,
            journal_rows=chance.randint(0, 30),
        )


def rising(found: list[Sample]) -> set[str]:
    return {trend.figure for trend in trends(found, SECONDS) if not trend.is_flat}


def report(found: list[Sample], *, findings: list[str], drops: int = 0) -> RunReport:
    return RunReport(
        started_at="2026-11-25T00:00:00+00:00",
        minutes=MINUTES,
        connections=10_000,
        workers=2,
        churn=0.2,
        machine=Machine("Linux", "a processor", 2, 2**30, {"python": "3.11"}),
        handshakes=1,
        events=1,
        acknowledged=1,
        drops=drops,
        refusals={},
        findings=findings,
        trends=trends(found, SECONDS),
        cpu=cpu_shares(found, 0.0),
        samples=found,
    )


@given(st.floats(-1e3, 1e3), st.floats(-1e6, 1e6), st.lists(st.integers(0, 10_000), min_size=2, unique=True))
def test_the_slope_of_a_straight_line_is_its_own(rise: float, start: float, places: list[int]) -> None:
    assert slope([(x, start + rise * x) for x in places]) == pytest.approx(rise, abs=1e-3)


def test_warming_up_and_noise_are_no_leak() -> None:
    assert rising(list(samples())) == set()


def test_a_hundred_bytes_for_each_connection_that_comes_and_goes_are_a_leak() -> None:
    assert rising(list(samples(leak=LEAK))) == {"memory_bytes"}


def test_a_journal_that_goes_on_growing_after_it_lets_go_of_its_first_rows_is_a_leak() -> None:
    assert rising(list(samples(journal_leak=2_000))) == {"journal_bytes"}


def test_what_was_not_sampled_long_enough_is_not_called_flat() -> None:
    early = [sample for sample in samples(leak=1e6) if sample.seconds < KEPT_SECONDS / 2]
    judged = {trend.figure: trend.is_judged for trend in trends(early, KEPT_SECONDS / 2)}
    assert judged == {figure.key: figure.key != "journal_bytes" for figure in FIGURES}


def test_postgres_is_shown_and_not_judged() -> None:
    found = trends(list(samples("postgres", leak=1e6)), SECONDS)
    assert found
    assert not any(trend.is_judged for trend in found)


def test_a_run_is_sound_only_when_everything_is_flat_and_nobody_lost_anything() -> None:
    flat, leaking = list(samples()), list(samples(leak=LEAK))
    assert report(flat, findings=[]).is_sound
    assert not report(flat, findings=["lost opening: client c1, attempt 1: "]).is_sound
    assert not report(flat, findings=[], drops=1).is_sound
    assert not report(leaking, findings=[]).is_sound
    assert "RISES" in page(report(leaking, findings=[]))
    assert "lost opening" in page(report(flat, findings=["lost opening: client c1, attempt 1: "]))


def test_a_restarted_process_keeps_its_share_of_the_processor() -> None:
    before, after = list(samples())[:100], list(samples())[:100]
    restarted = before + [Sample(500 + sample.seconds, sample.process, 1, 1, sample.cpu_seconds) for sample in after]
    assert cpu_shares(restarted, 0.0)["gateway-0"] == pytest.approx(0.2, rel=0.02)
