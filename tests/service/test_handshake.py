"""What a client says when it connects, and whether it may; no socket."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsetrail.close_codes import Reason
from pulsetrail.origins import Origins
from pulsetrail.rates import RateLimiter
from pulsetrail.settings import AuthMode
from pulsetrail_service.auth import Authenticator, Identity
from pulsetrail_service.handshake import Admission, Hello, Refusal, Request, ceiling_of, parse_query


class Occupied:
    """A process with so many connections."""

    def __init__(self, count: int = 0, *, draining: bool = False, prefixes: dict[str, int] | None = None) -> None:
        self.count = count
        self.draining = draining
        self.per_prefix: Counter[str] = Counter(prefixes or {})

    def __len__(self) -> int:
        return self.count


def request(**changes: object) -> Request:
    plain = Request(
        address="192.0.2.7",
        prefix="192.0.2.0/24",
        behind_proxy=False,
        origin=None,
        host="updates.example.com",
        authorization=None,
        user_agent="",
        subprotocols=[],
        hello=Hello(),
    )
    return plain._replace(**changes)  # type: ignore[arg-type]  # each test names the fields it means


def admission(rate: str = "1000/minute", *, origins: tuple[str, ...] = (), connections: int = 10) -> Admission:
    return Admission(
        Authenticator(AuthMode.NONE),
        RateLimiter("100000/minute", rate),
        ceiling=RateLimiter("200000/minute", ceiling_of(rate)),
        origins=Origins(origins),
        max_connections=connections,
        max_connections_per_address=5,
    )


def refused(outcome: Refusal | Identity) -> tuple[str, int, int | None]:
    assert isinstance(outcome, Refusal), "it was let in"
    return outcome.reason, outcome.status, outcome.close_code


def test_everything_a_client_says_of_itself_is_read() -> None:
    previous = UUID("018f3a5e-7c3d-7b6a-9f0e-1234567890ab")
    hello = parse_query(
        urlencode(
            {
                "client": "c-1",
                "page": "p-1",
                "app": "dash",
                "release": "1.2.3",
                "since": "17",
                "since_epoch": "abc",
                "prev": previous,
                "prev_code": 4100,
                "prev_clean": "true",
                "cause": "client_heartbeat_timeout",
                "attempt": 3,
                "backoff_ms": 4500,
                "downtime_ms": 6100,
            }
        ).encode()
    )
    assert hello[:6] == ("c-1", "p-1", "dash", "1.2.3", 17, "abc")
    assert hello.previous is not None
    assert hello.previous.connection == previous
    assert (hello.previous.code, hello.previous.clean) == (4100, True)
    assert (hello.previous.cause, hello.previous.attempt) == ("client_heartbeat_timeout", 3)
    assert (hello.previous.backoff_ms, hello.previous.downtime_ms) == (4500, 6100)


def test_a_malformed_id_is_none_so_that_two_clients_do_not_become_one() -> None:
    assert parse_query(b"client=%00evil&page=a%20b").client is None


def test_a_word_that_could_be_anything_becomes_other() -> None:
    hello = parse_query(b"app=%3Cscript%3E&release=" + b"9" * 65 + b"&cause=aliens")
    assert (hello.app, hello.release) == ("other", "other")
    assert hello.previous is not None
    assert hello.previous.cause == "other"


@given(st.binary(max_size=4096))
def test_no_query_is_an_error(query: bytes) -> None:
    hello = parse_query(query)
    assert hello.client is None or len(hello.client) <= 64


@given(st.dictionaries(st.sampled_from(["client", "since", "prev", "attempt", "prev_code", "app"]), st.text()))
def test_hostile_values_leave_only_bounded_ones(values: dict[str, str]) -> None:
    hello = parse_query(urlencode(values).encode())
    assert hello.since is None or 0 <= hello.since <= 1 << 53
    assert hello.app is None or (len(hello.app) <= 64 and hello.app.isprintable())
    assert hello.previous is None or hello.previous.code is None or hello.previous.code <= 4999


def test_a_program_without_an_origin_is_let_in() -> None:
    assert admission().check(request(), Occupied(), journal_accepts=True) == Identity()


def test_a_foreign_origin_is_refused_with_plain_http() -> None:
    foreign = request(origin="https://evil.example")
    assert refused(admission().check(foreign, Occupied(), journal_accepts=True)) == (Reason.FORBIDDEN, 403, None)


def test_a_listed_origin_is_let_in() -> None:
    ours = request(origin="https://app.example.com")
    checks = admission(origins=("https://app.example.com",))
    assert checks.check(ours, Occupied(), journal_accepts=True) == Identity()


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_a_page_of_the_service_itself_is_let_in(host: str) -> None:
    own = request(origin=f"http://{host}", host=host)
    assert admission().check(own, Occupied(), journal_accepts=True) == Identity()


def test_a_name_that_was_made_to_point_here_is_refused() -> None:
    rebound = request(origin="http://evil.example:8000", host="evil.example:8000")
    assert refused(admission().check(rebound, Occupied(), journal_accepts=True))[1] == 403


def test_above_its_rate_an_address_is_told_by_a_close_code_and_above_the_ceiling_by_http() -> None:
    checks = admission("3/minute")
    outcomes = [checks.check(request(), Occupied(), journal_accepts=True) for _ in range(8)]
    assert outcomes[:3] == [Identity()] * 3
    assert [refused(outcome)[1:] for outcome in outcomes[3:6]] == [(101, 4205)] * 3
    assert [refused(outcome)[1:] for outcome in outcomes[6:]] == [(429, None)] * 2
    other = request(prefix="198.51.100.0/24")
    assert checks.check(other, Occupied(), journal_accepts=True) == Identity(), "another address is not affected"


def test_each_limit_has_its_code_and_says_which_setting_it_is() -> None:
    full = admission().check(request(), Occupied(10), journal_accepts=True)
    assert refused(full) == (Reason.CONNECTION_LIMIT, 101, 4502)
    assert isinstance(full, Refusal)
    assert full.detail == "PULSETRAIL_MAX_CONNECTIONS"
    crowded = admission().check(request(), Occupied(5, prefixes={"192.0.2.0/24": 5}), journal_accepts=True)
    assert isinstance(crowded, Refusal)
    assert crowded.detail == "PULSETRAIL_MAX_CONNECTIONS_PER_ADDRESS"


def test_a_nearly_full_journal_refuses_new_connections() -> None:
    outcome = admission().check(request(), Occupied(), journal_accepts=False)
    assert refused(outcome) == (Reason.OVERLOADED, 101, 1013)


def test_a_draining_process_refuses_with_plain_http() -> None:
    outcome = admission().check(request(), Occupied(draining=True), journal_accepts=True)
    assert refused(outcome)[1] == 503


@pytest.mark.parametrize(
    ("notation", "ceiling"), [("10/minute", "20/minute"), ("10/second;200/minute", "20/second;400/minute")]
)
def test_the_ceiling_is_twice_the_rate(notation: str, ceiling: str) -> None:
    assert ceiling_of(notation) == ceiling


def test_a_ceiling_keeps_the_length_of_its_window() -> None:
    assert ceiling_of("5 per 10 minutes") == "10 per 10 minutes"
