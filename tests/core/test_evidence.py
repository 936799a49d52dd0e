"""From the evidence of a close to its reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsetrail.close_codes import BY_CODE, ENDINGS, Initiator, Phase, Reason, Retry, is_retryable
from pulsetrail.events import Evidence, TcpInfo
from pulsetrail.evidence import classify, is_dead_path, kernel_acknowledges


@pytest.mark.parametrize(
    ("evidence", "decision", "reason", "initiator", "code"),
    [
        (Evidence(close_received=1000, close_sent=1000, first_actor="peer"), None, "normal", "client", 1000),
        (Evidence(close_received=1005, close_sent=1005, first_actor="peer"), None, "normal", "client", 1005),
        (Evidence(close_received=1001, close_sent=1001, first_actor="peer"), None, "page_closed", "client", 1001),
        (Evidence(close_received=4100, first_actor="peer"), None, "client_heartbeat_timeout", "client", 4100),
        (Evidence(close_received=4102, first_actor="peer"), None, "client_asleep", "client", 4102),
        (Evidence(eof=True), None, "peer_vanished", "unknown", None),
        (Evidence(error="ECONNRESET"), None, "peer_reset", "unknown", None),
        (Evidence(error="EPIPE"), None, "peer_reset", "unknown", None),
        (Evidence(error="ETIMEDOUT"), None, "path_timeout", "network", None),
        (Evidence(error="EHOSTUNREACH"), None, "path_timeout", "network", None),
        (Evidence(), None, "unknown", "unknown", None),
        (Evidence(close_sent=4201, first_actor="server"), Reason.IDLE_TIMEOUT, "idle_timeout", "server", 4201),
        (Evidence(close_sent=1002, first_actor="server"), Reason.PROTOCOL_ERROR, "protocol_error", "client", 1002),
        (
            Evidence(close_sent=4202, first_actor="server", error="ECONNRESET"),
            Reason.SLOW_CONSUMER,
            "slow_consumer",
            "server",
            4202,
        ),
    ],
)
def test_evidence_has_one_reason(
    evidence: Evidence, decision: Reason | None, reason: str, initiator: str, code: int | None
) -> None:
    why = classify(evidence, decision)
    assert (why.reason, why.initiator, why.close_code) == (reason, initiator, code)


@pytest.mark.parametrize("code", [1011, 1012, 4200, 4201, 4206, 4500, 3000, 4999])
def test_a_code_that_only_the_server_sends_proves_nothing_when_a_client_sends_it(code: int) -> None:
    why = classify(Evidence(close_received=code, first_actor="peer"))
    assert why.reason is Reason.UNKNOWN
    assert why.initiator is Initiator.CLIENT


def test_an_end_while_draining_says_so() -> None:
    assert classify(Evidence(eof=True), draining=True).phase is Phase.DRAINING


@given(
    st.none() | st.integers(min_value=1000, max_value=4999),
    st.none() | st.sampled_from(["ECONNRESET", "ETIMEDOUT", "EIO", "SSLError"]),
    st.booleans(),
)
def test_every_end_has_a_reason_from_the_table(code: int | None, error: str | None, eof: bool) -> None:
    why = classify(Evidence(close_received=code, error=error, eof=eof))
    assert why.reason in Reason
    assert why.was_clean is False


def tcp(**fields: int) -> TcpInfo:
    return TcpInfo(**{**dict.fromkeys(TcpInfo.__struct_fields__, 0), **fields})


def test_unacknowledged_data_alone_is_a_round_trip_in_the_making() -> None:
    assert kernel_acknowledges(tcp(unacked=3)) is True
    assert not is_dead_path(tcp(unacked=3))


def test_a_full_receive_window_is_not_a_dead_path() -> None:
    assert kernel_acknowledges(tcp(unacked=0, backoff=5)) is True
    assert not is_dead_path(tcp(unacked=0, backoff=5))


def test_a_backing_off_retransmission_is_a_dead_path() -> None:
    assert kernel_acknowledges(tcp(unacked=1, backoff=1)) is False
    assert not is_dead_path(tcp(unacked=1, backoff=1)), "one timeout may be a lost segment"
    assert is_dead_path(tcp(unacked=1, backoff=2))


def test_without_tcp_info_nothing_is_known() -> None:
    assert kernel_acknowledges(None) is None
    assert not is_dead_path(None)


def test_each_code_and_each_reason_stand_in_the_table_once() -> None:
    codes = [code for ending in ENDINGS for code in ending.codes]
    assert len(codes) == len(set(codes)) == len(BY_CODE)
    assert sorted(ending.reason for ending in ENDINGS) == sorted(Reason)


def test_the_range_of_a_code_of_ours_says_whether_a_client_comes_back() -> None:
    for ending in ENDINGS:
        for code in ending.codes:
            if code >= 4000:
                assert is_retryable(code) == (code < 4500 or code == 4500), code
                assert (ending.retry is Retry.NO) == (code > 4500), code
    assert is_retryable(4450)
    assert not is_retryable(4700)
    assert not is_retryable(1000)
    assert is_retryable(1006)
