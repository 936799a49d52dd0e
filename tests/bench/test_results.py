"""What the benchmarks make of their samples."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report import write_report
from bench.results import Asked, Figure, Machine, Outcome, Series, Verdict, judge, ratios, summary, verdict
from bench.stage import BenchError
from bench.tables import as_markdown, asked_table, measured_rows, number
from bench.workloads import WORKLOADS

RATE = Figure("rate", "messages delivered", "messages/s")
CPU = Figure("cpu", "CPU", "µs/message", "lower")

values = st.floats(min_value=0.001, max_value=1e9)


def outcome(
    *series: Series, asked: tuple[Asked, ...] = (), contestants: tuple[str, ...] = ("pulsetrail", "ws")
) -> Outcome:
    return Outcome(
        workload="B3",
        title="broadcast",
        contestants=contestants,
        figures=(RATE, CPU),
        asked=asked,
        series=series,
        notes=(),
        refusals=(),
        size="full",
        rounds=3,
        command="python -m bench B3",
        started_at="2026-11-25T00:00:00+00:00",
        seconds=1.0,
        machine=Machine("Linux", "a processor", 2, 2**30, {"ws": "8"}),
    )


def test_a_ratio_is_taken_round_by_round_and_then_the_median() -> None:
    # The machine was slow in the second round, for both: the medians alone would say 100 / 110.
    judged = judge(
        outcome(
            Series("pulsetrail", "rate", (100.0, 10.0, 220.0)),
            Series("ws", "rate", (100.0, 10.0, 110.0)),
            asked=(Asked("rate", 1.0, "ws"),),
        )
    )
    assert [(one.measured.median, one.verdict) for one in judged if one.measured] == [(1.0, Verdict.REACHED)]


def test_a_round_that_one_side_lacks_is_in_no_ratio() -> None:
    assert ratios([100.0, None, 50.0], [50.0, 50.0, None]) == [2.0, None, None]
    assert ratios([1.0], [0.0]) == [None]


def test_without_values_there_is_no_figure_and_no_verdict_that_flatters() -> None:
    ours = Series("pulsetrail", "rate", (None, None, None))
    asked = (Asked("rate", 1.0, "ws"), Asked("rate", 5.0), Asked("cpu", 5.0))
    assert [one.verdict for one in judge(outcome(ours, asked=asked))] == [Verdict.NO_FIGURE] * 3


@pytest.mark.parametrize(
    ("measured", "better", "expected"),
    [
        (1.0, "higher", Verdict.REACHED),
        (0.99, "higher", Verdict.NOT_REACHED),
        (0.5, "higher", Verdict.NOT_REACHED),
        (0.49, "higher", Verdict.BELOW_HALF),
        (1.0, "lower", Verdict.REACHED),
        (1.01, "lower", Verdict.NOT_REACHED),
        (2.0, "lower", Verdict.NOT_REACHED),
        (2.01, "lower", Verdict.BELOW_HALF),
    ],
)
def test_what_is_asked_is_a_least_where_more_is_better_and_a_most_where_less_is(
    measured: float, better: str, expected: Verdict
) -> None:
    assert verdict(measured, 1.0, "higher" if better == "higher" else "lower") is expected


@given(st.lists(st.one_of(st.none(), values), max_size=9))
def test_a_summary_lies_within_the_values_that_there_are(given_values: list[float | None]) -> None:
    known = [value for value in given_values if value is not None]
    found = summary(given_values)
    if not known:
        assert found is None
    else:
        assert found is not None
        assert min(known) == found.low <= found.median <= found.high == max(known)
        assert found.count == len(known)


def test_a_result_survives_its_file() -> None:
    one = outcome(Series("pulsetrail", "rate", (1.0, None, 3.0), "1 update a write"), asked=(Asked("rate", 0.6, "ws"),))
    assert msgspec.json.decode(msgspec.json.encode(one), type=Outcome) == one


def test_the_tables_show_each_case_of_each_contestant_and_what_ours_is_of_the_others() -> None:
    one = outcome(
        Series("pulsetrail", "rate", (200.0,), "small"),
        Series("ws", "rate", (100.0,), "small"),
        Series("pulsetrail", "rate", (50.0,), "large"),
        asked=(Asked("rate", 1.0, "ws", case="small"), Asked("rate", 200.0, case="large")),
    )
    assert list(measured_rows(one)) == [
        ["pulsetrail, small", "200", "", "-", ""],
        ["ws, small", "100", "2.00", "-", ""],
        ["pulsetrail, large", "50.0", "", "-", ""],
    ]
    assert asked_table([one]).splitlines()[2:] == [
        "| B3 | messages delivered, small: ≥ 1.00 of ws | 2.00 | reached |",
        "| B3 | messages delivered, large: ≥ 200 messages/s | 50.0 | below half |",
    ]
    assert "python -m bench B3" in as_markdown([one])


@given(st.floats(min_value=-1e9, max_value=1e9, allow_nan=False))
def test_a_number_is_shown_without_an_exponent_and_near_its_value(value: float) -> None:
    shown = number(value)
    assert "e" not in shown
    assert abs(float(shown.replace(",", "")) - value) <= max(0.00005, abs(value) * 0.006)


PAGE = """# Performance
<!-- bench:asked -->
old
<!-- /bench -->
by hand
<!-- bench:B3 -->
old
<!-- /bench -->
<!-- bench:B4 -->
old
<!-- /bench -->
"""


def test_a_report_replaces_what_is_between_its_markers_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(PAGE)
    (tmp_path / "B3.svg").write_text("<svg/>")
    one = outcome(Series("pulsetrail", "rate", (200.0,)), asked=(Asked("rate", 1.0, "ws"),))
    write_report([one], tmp_path, page)
    text = page.read_text()
    assert "old" not in text
    assert "\nby hand\n" in text
    assert "| [B3](#b3) | messages delivered: ≥ 1.00 of ws | - | no figure |" in text
    assert "![B3](performance/B3.svg)" in text
    assert (tmp_path / "performance" / "B3.svg").exists()
    assert "<!-- bench:B4 -->\nNot measured yet.\n<!-- /bench -->" in text
    write_report([one], tmp_path, page)
    assert page.read_text() == text


def test_a_result_without_a_place_on_the_page_is_not_lost_silently(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("<!-- bench:asked -->\n<!-- /bench -->\n")
    with pytest.raises(BenchError, match="no place for B3"):
        write_report([outcome()], tmp_path, page)


def test_every_workload_has_its_place_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    for workload in WORKLOADS:
        assert f"<!-- bench:{workload} -->" in page
        assert f'<a id="{workload.lower()}"></a>' in page
