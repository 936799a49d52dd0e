import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsetrail.rates import RateLimiter


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_hits_within_the_limit_pass_and_the_next_is_told_how_long_to_wait() -> None:
    clock = Clock()
    limiter = RateLimiter("1000/second", "3/minute", clock=clock)

    assert [limiter.hit("a") for _ in range(3)] == [None, None, None]
    wait = limiter.hit("a")

    assert wait is not None
    clock.now += wait / 1000
    assert limiter.hit("a") is None, "the hint was too short"


def test_one_key_above_its_limit_does_not_hold_back_another() -> None:
    limiter = RateLimiter("10/minute", "3/minute", clock=Clock())

    for _ in range(50):
        limiter.hit("loud")

    assert limiter.hit("quiet") is None


def test_the_total_limits_all_keys_together() -> None:
    limiter = RateLimiter("5/minute", "3/minute", clock=Clock())

    passed = [key for key in "aabbcc" if limiter.hit(key) is None]

    assert passed == list("aabbc")


def test_every_part_of_a_compound_notation_holds() -> None:
    clock = Clock()
    limiter = RateLimiter("1000/second", "2/second;3/minute", clock=clock)

    assert [limiter.hit("a"), limiter.hit("a")] == [None, None]
    assert limiter.hit("a") is not None
    clock.now += 5
    assert limiter.hit("a") is None
    assert limiter.hit("a") is not None


def test_the_number_of_remembered_keys_is_bounded() -> None:
    limiter = RateLimiter("1000000/second", "3/minute", max_keys=100, clock=Clock())

    for number in range(10_000):
        limiter.hit(f"address {number}")

    assert limiter.keys == 100


@given(st.lists(st.floats(0, 20), max_size=200), st.integers(1, 10))
def test_whatever_the_rhythm_no_stretch_of_a_window_sees_more_than_twice_the_limit_and_every_hint_is_enough(
    pauses: list[float], amount: int
) -> None:
    clock = Clock()
    limiter = RateLimiter("100000/second", f"{amount} per 10 second", clock=clock)
    passed: list[float] = []
    for pause in pauses:
        clock.now += pause
        wait = limiter.hit("a")
        if wait is not None:
            clock.now += wait / 1000
            assert limiter.hit("a") is None, f"waited {wait} ms as told and was refused again"
        passed.append(clock.now)
        assert sum(clock.now - 10 < moment for moment in passed) <= 2 * amount


@pytest.mark.parametrize("notation", ["", "fast", "10/fortnight"])
def test_a_malformed_notation_is_refused(notation: str) -> None:
    with pytest.raises(ValueError):
        RateLimiter(notation, "1/minute")


def test_a_limit_of_zero_refuses_everything() -> None:
    assert RateLimiter("10/minute", "0/minute", clock=Clock()).hit("a") is not None
