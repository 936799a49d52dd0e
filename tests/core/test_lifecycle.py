"""The connection's rules, without a socket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulsetrail.close_codes import Reason
from pulsetrail.events import (
    LATENCY_BOUNDS_US,
    ConnectionClosed,
    ConnectionStale,
    Evidence,
    HeartbeatMissed,
    LatencySampled,
    TcpInfo,
)
from pulsetrail.lifecycle import LATENCY_WINDOW, Draft, Lifecycle, Limits, State

LIMITS = Limits(miss_limit=2, idle_timeout=600.0, probe_wait=2.0)


def tcp(**fields: int) -> TcpInfo:
    quiet = dict.fromkeys(TcpInfo.__struct_fields__, 0)
    return TcpInfo(**{**quiet, **fields})


ANSWERING = tcp(state=1)
DEAD = tcp(state=1, unacked=1, backoff=4, retransmits=4, last_ack_recv_ms=6000)


def missed(life: Lifecycle, seq: int, now: float, info: TcpInfo | None) -> tuple[list[Draft], bool]:
    """One heartbeat that finds the last unanswered, and its probe."""
    miss, _ = life.beat(seq, now, int(now * 1e6))
    assert miss is not None, "the heartbeat before was unanswered"
    return life.probed(info, now + LIMITS.probe_wait)


def types(drafts: list[Draft]) -> list[str]:
    return [draft.event_type for draft in drafts]


def test_an_answered_heartbeat_is_no_event() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    assert life.beat(1, 30.0, 0) == (None, False)
    assert life.answered(30.1, 0, 100_000, None) == []
    assert life.beat(2, 60.0, 0) == (None, False)


def test_an_answer_without_a_sequence_number_counts() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    life.beat(1, 30.0, 0)
    life.answered(30.1, 0, None, None)
    assert life.beat(2, 60.0, 0)[0] is None


def test_a_miss_is_recorded_with_all_three_layers_and_the_time_at_which_it_happened() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    life.beat(1, 30.0, 30_000_000)
    miss, _ = life.beat(2, 60.0, 60_000_000)
    assert miss is not None
    life.browser_ponged(60.001)
    (draft,), dead = life.probed(ANSWERING, 62.0)
    assert draft.event_type == "heartbeat.missed"
    assert draft.at == 60_000_000
    assert isinstance(draft.payload, HeartbeatMissed)
    assert draft.payload.heartbeat_seq == 1
    assert (draft.payload.layers.kernel, draft.payload.layers.ping, draft.payload.layers.page) == (True, True, False)
    assert draft.payload.ping_rtt_us == 1000 or abs((draft.payload.ping_rtt_us or 0) - 1000) <= 1
    assert not dead


def test_without_tcp_info_the_kernel_layer_is_unknown_and_no_path_is_called_dead() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    life.beat(1, 30.0, 0)
    missed(life, 2, 60.0, None)
    drafts, dead = missed(life, 3, 90.0, None)
    assert types(drafts) == ["heartbeat.missed", "connection.stale"]
    assert isinstance(drafts[0].payload, HeartbeatMissed)
    assert drafts[0].payload.layers.kernel is None
    assert not dead


def test_the_second_miss_makes_a_connection_stale_once() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    life.beat(1, 30.0, 0)
    assert types(missed(life, 2, 60.0, ANSWERING)[0]) == ["heartbeat.missed"]
    assert types(missed(life, 3, 90.0, ANSWERING)[0]) == ["heartbeat.missed", "connection.stale"]
    assert life.state is State.STALE
    assert types(missed(life, 4, 120.0, ANSWERING)[0]) == ["heartbeat.missed"]


def test_a_stale_connection_on_a_dead_path_is_to_be_closed() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    life.beat(1, 30.0, 0)
    assert not missed(life, 2, 60.0, DEAD)[1], "one miss is not enough"
    drafts, dead = missed(life, 3, 90.0, DEAD)
    assert dead
    assert isinstance(drafts[1].payload, ConnectionStale)
    assert drafts[1].payload.dead_path


def test_a_sleeping_page_is_kept_until_the_idle_timeout() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    for beat in range(1, 20):
        miss, idle = life.beat(beat, beat * 30.0, 0)
        assert not idle
        if miss is not None:
            life.browser_ponged(beat * 30.0)
            assert not life.probed(ANSWERING, beat * 30.0 + 2)[1]
    assert life.beat(20, 600.0, 0)[1]


def test_an_answer_after_misses_is_recorded_as_a_recovery() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    life.beat(1, 30.0, 0)
    missed(life, 2, 60.0, ANSWERING)
    missed(life, 3, 90.0, ANSWERING)
    assert types(life.answered(100.0, 0, None, None)) == ["heartbeat.recovered"]
    assert life.state is State.OPEN
    assert life.misses == 0


def test_an_answer_that_overtakes_the_probe_still_records_the_miss_first() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    life.beat(1, 30.0, 0)
    life.beat(2, 60.0, 0)
    assert types(life.answered(60.5, 0, None, None)) == ["heartbeat.missed", "heartbeat.recovered"]
    assert life.probed(ANSWERING, 62.0) == ([], False)


def test_an_end_records_what_was_pending_and_comes_once() -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    life.beat(1, 30.0, 0)
    life.answered(30.2, 0, 200_000, 5)
    life.beat(2, 60.0, 0)
    life.beat(3, 90.0, 0)
    drafts = life.ended(Evidence(eof=True), None, 91.0, 91_000_000)
    assert types(drafts) == ["heartbeat.missed", "latency.sampled", "connection.closed"]
    assert [draft.numbered for draft in drafts] == [True, False, True]
    assert drafts[-1].reason is Reason.PEER_VANISHED
    assert isinstance(drafts[-1].payload, ConnectionClosed)
    assert drafts[-1].payload.duration_ms == 91_000
    assert life.ended(Evidence(eof=True), None, 92.0, 92_000_000) == []


@given(st.lists(st.integers(min_value=0, max_value=60_000_000), min_size=1, max_size=200))
def test_a_latency_summary_agrees_with_its_samples(samples: list[int]) -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    for sample in samples:
        life.answered(1.0, 0, sample, None)
    assert life.window_ends == LATENCY_WINDOW
    (draft,) = life.latency(LATENCY_WINDOW, 0)
    assert isinstance(draft.payload, LatencySampled)
    assert draft.payload.count == len(samples) == sum(draft.payload.buckets)
    assert (draft.payload.min_us, draft.payload.max_us) == (min(samples), max(samples))
    assert draft.payload.sum_us == sum(samples)
    for index, bound in enumerate(LATENCY_BOUNDS_US):
        assert sum(draft.payload.buckets[: index + 1]) == sum(sample <= bound for sample in samples)
    assert life.latency(LATENCY_WINDOW * 2, 0) == [], "nothing was sampled in the second window"


@given(st.lists(st.sampled_from(["beat", "answer", "probe", "ping", "heard"]), max_size=60))
def test_whatever_happens_misses_and_recoveries_alternate_and_the_end_is_last(steps: list[str]) -> None:
    life = Lifecycle(LIMITS, 0.0, 0)
    drafts: list[Draft] = []
    now = 0.0
    for number, step in enumerate(steps, 1):
        now += 3.0
        if step == "beat":
            life.beat(number, now, int(now * 1e6))
        elif step == "answer":
            drafts += life.answered(now, int(now * 1e6), None, None)
        elif step == "probe":
            drafts += life.probed(ANSWERING, now)[0]
        elif step == "ping":
            life.browser_ponged(now)
        else:
            life.heard(now)
    drafts += life.ended(Evidence(), None, now, int(now * 1e6))
    names = types(drafts)
    assert names.count("connection.closed") == 1
    assert names[-1] == "connection.closed"
    missing = False
    for name in names:
        if name == "heartbeat.missed":
            missing = True
        elif name == "heartbeat.recovered":
            assert missing, f"a recovery without a miss in {names}"
            missing = False
        elif name == "connection.stale":
            assert missing, f"stale without a miss in {names}"
