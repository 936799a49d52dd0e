"""The circuit breaker and the ring of newest updates."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulsetrail_service.breaker import Breaker, BreakerState
from pulsetrail_service.updates import Ring, Update


def test_failures_in_a_row_open_it_once() -> None:
    breaker = Breaker(failures=3, seconds=10.0)
    assert [breaker.failed(0.0) for _ in range(3)] == [False, False, True]
    assert breaker.state is BreakerState.OPEN
    assert breaker.wait(4.0) == 6.0


def test_a_success_in_between_starts_the_count_again() -> None:
    breaker = Breaker(failures=2, seconds=10.0)
    breaker.failed(0.0)
    assert not breaker.succeeded(), "it was not open"
    assert not breaker.failed(0.0)
    assert breaker.state is BreakerState.CLOSED


def test_one_good_trial_closes_it() -> None:
    breaker = Breaker(failures=1, seconds=10.0)
    breaker.failed(0.0)
    assert breaker.wait(10.0) == 0.0
    states = [breaker.state]
    assert breaker.succeeded()
    states.append(breaker.state)
    assert states == [BreakerState.TRIAL, BreakerState.CLOSED]


def test_a_failed_trial_opens_it_again_and_is_no_news() -> None:
    breaker = Breaker(failures=3, seconds=10.0)
    for _ in range(3):
        breaker.failed(0.0)
    breaker.wait(10.0)
    assert not breaker.failed(10.0)
    assert breaker.wait(15.0) == 5.0


def update(position: int) -> Update:
    return Update(position, "t", b"1")


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 80))
def test_a_replay_is_all_that_was_missed_or_nothing(size: int, published: int, since: int) -> None:
    ring = Ring(size)
    for position in range(1, published + 1):
        ring.append(update(position))
    replay = ring.after(since)
    positions = [item.position for item in replay.updates]
    if replay.resumed:
        assert positions == list(range(since + 1, published + 1))
    else:
        assert positions == []
        assert since > published or published - since > size


def test_a_hole_in_the_stream_is_never_replayed_over() -> None:
    ring = Ring(10)
    ring.append(update(1))
    ring.append(update(5))
    assert not ring.after(1).resumed
    assert [item.position for item in ring.after(4).updates] == [5]


def test_a_message_carries_its_place_topic_and_data() -> None:
    assert Update(7, 'a"b', b'{"x":1}').message() == (
        b'{"type":"update","stream_position":7,"topic":"a\\"b","data":{"x":1}}'
    )
