"""What people write is understood or refused in a sentence, and a monkey's seed says everything about it."""

from __future__ import annotations

from itertools import islice

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsetrail.chaos.control import Apply, decode_order
from pulsetrail.chaos.faults import (
    KINDS,
    LONGEST_MS,
    Fin,
    Reset,
    draws,
    kind_of,
    parse_duration,
    parse_flap,
    parse_latency,
    parse_rate,
)
from pulsetrail_collector.schemas import VOCABULARIES


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("500ms", 500), ("20s", 20_000), ("20", 20_000), ("1.5m", 90_000), ("1m30s", 90_000), ("24h", LONGEST_MS)],
)
def test_durations_are_written_as_people_write_them(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "s", "0", "0ms", "-5s", "5 s", "25h", "1s30", "x", "5sx", "1e3", "9" * 40, "٣s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="no duration such as 500ms"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("800", (800, 0)),
        ("800ms", (800, 0)),
        ("800±300", (800, 300)),
        ("800+-300", (800, 300)),
        ("800+/-300ms", (800, 300)),
        ("0", (0, 0)),
    ],
)
def test_latency_takes_its_jitter_also_in_ascii(text: str, both: tuple[int, int]) -> None:
    assert parse_latency(text) == both


@pytest.mark.parametrize("text", ["", "±300", "800±", "300±800", "-5", "600001", "1s", "8 00"])
def test_a_latency_that_could_be_negative_or_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no latency in milliseconds"):
        parse_latency(text)


@pytest.mark.parametrize(("text", "rate"), [("2000", 2000), ("50k", 50_000), ("50kB/s", 50_000), ("1MiB", 1 << 20)])
def test_rates_are_bytes_a_second(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "0.1", "k", "5x", "-1", "1 0", "5i"])
def test_a_rate_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no rate in bytes a second"):
        parse_rate(text)


def test_a_flap_is_down_first() -> None:
    assert parse_flap("10s/20s") == (10_000, 20_000)
    for text in ("10s", "10s/", "/20s", "10s/20s/30s", "a/b"):
        with pytest.raises(ValueError, match="no pair of durations"):
            parse_flap(text)


@given(st.integers(min_value=0, max_value=2**53 - 1))
def test_a_seed_draws_the_same_faults_again_and_each_is_a_valid_order(seed: int) -> None:
    first = list(islice(draws(seed), 50))
    assert first == list(islice(draws(seed), 50))
    for fault, for_ms, pause_ms in first:
        assert decode_order(msgspec.json.encode(Apply(fault, for_ms))) == Apply(fault, for_ms)
        assert for_ms is not None or isinstance(fault, Reset | Fin), "only these two can happen once"
        assert pause_ms > 0


def test_the_monkey_draws_every_fault_but_itself() -> None:
    assert {kind_of(draw.fault) for draw in islice(draws(1), 500)} == set(KINDS) - {"monkey"}


def test_the_collector_knows_every_fault() -> None:
    assert set(KINDS) == VOCABULARIES["fault"]
