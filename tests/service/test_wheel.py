"""The heartbeat wheel."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pulsetrail_service.heartbeat import Wheel


class Recorded:
    """A wheel over names, and what it called."""

    def __init__(self, interval: float = 30.0) -> None:
        self.beats: list[tuple[str, int, float]] = []
        self.wheel: Wheel[str] = Wheel(interval, self.beat, lambda now: None, lambda: 0.0)
        self.slots: dict[str, int] = {}
        self.now = 0.0

    def beat(self, members: list[str], seq: int, now: float) -> None:
        self.beats += [(member, seq, now) for member in members]

    def join(self, name: str) -> None:
        self.slots[name] = self.wheel.join(name)

    def turn(self, turns: int) -> None:
        for _ in range(turns):
            self.now += self.wheel.step
            self.wheel.turn(self.now)


def test_each_member_is_served_once_a_revolution() -> None:
    recorded = Recorded()
    names = [str(number) for number in range(1000)]
    for name in names:
        recorded.join(name)
    recorded.turn(120)
    assert Counter(name for name, _, _ in recorded.beats) == Counter(names)


def test_members_that_join_at_once_are_spread_evenly() -> None:
    recorded = Recorded()
    for number in range(1200):
        recorded.join(str(number))
    recorded.turn(120)
    per_tick = Counter(seq for _, seq, _ in recorded.beats)
    assert set(per_tick.values()) == {10}, "1,200 members on 120 slots"


def test_two_beats_of_a_member_are_one_interval_apart() -> None:
    recorded = Recorded(interval=2.0)
    recorded.join("a")
    recorded.turn(100)
    times = [now for _, _, now in recorded.beats]
    assert len(times) == 5
    assert all(abs(later - earlier - 2.0) < 1e-6 for earlier, later in pairwise(times))


def test_a_sequence_number_gives_back_when_its_heartbeat_went_out() -> None:
    recorded = Recorded(interval=2.0)
    recorded.join("a")
    recorded.turn(500)
    for _, seq, now in recorded.beats[-4:]:
        assert recorded.wheel.sent_at(seq) == now
    assert recorded.wheel.sent_at(recorded.beats[0][1]) is None, "long forgotten"
    assert recorded.wheel.sent_at(10**9) is None
    assert recorded.wheel.sent_at(-1) is None
    assert recorded.wheel.sent_at(0) is None


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=40))
def test_who_has_left_is_not_served(steps: list[tuple[str, bool]]) -> None:
    recorded = Recorded(interval=2.0)
    present: set[str] = set()
    for name, joins in steps:
        if joins and name not in present:
            recorded.join(name)
            present.add(name)
        elif not joins and name in present:
            recorded.wheel.leave(name, recorded.slots[name])
            present.discard(name)
    recorded.turn(20)
    assert {name for name, _, _ in recorded.beats} == present
    assert len(recorded.wheel) == len(present)
