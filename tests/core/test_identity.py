"""Identifiers, with the vectors that may never change."""

from __future__ import annotations

import time
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsetrail.identity import address_prefix, client_ref, new_id, shard_of

KEY = bytes(range(32))


@pytest.mark.parametrize(
    ("client", "ref"),
    [
        ("alice", "6eefad2b-ed97-b6d9-3ee6-63d67a44b460"),
        ("", "d38b4209-6d80-f45f-826b-44a9d5607de7"),
        ("zoë", "9317ed2c-8366-5713-6e23-681b53076e60"),
    ],
)
def test_a_clients_pseudonym_never_changes(client: str, ref: str) -> None:
    assert client_ref(KEY, client) == UUID(ref)


@pytest.mark.parametrize(
    ("subject", "of_4", "of_64"),
    [
        (UUID("00000000-0000-0000-0000-000000000000"), 1, 21),
        (UUID("018f3a5e-7c3d-7b6a-9f0e-1234567890ab"), 0, 16),
        ("node-0", 2, 58),
        ("192.0.2.0/24", 2, 54),
    ],
)
def test_the_shard_of_a_subject_never_changes(subject: UUID | str, of_4: int, of_64: int) -> None:
    assert (shard_of(subject, 4), shard_of(subject, 64)) == (of_4, of_64)


@given(st.text(), st.integers(min_value=1, max_value=64))
def test_a_shard_is_within_bounds(subject: str, shards: int) -> None:
    assert 0 <= shard_of(subject, shards) < shards


def test_ids_are_version_7_and_sorted_by_time() -> None:
    ids = [new_id() for _ in range(100)]
    assert all(value.version == 7 for value in ids)
    assert all(value.variant == "specified in RFC 4122" for value in ids)
    milliseconds = [value.int >> 80 for value in ids]
    assert milliseconds == sorted(milliseconds)
    assert len(set(ids)) == len(ids)


def test_ids_of_a_process_only_grow_also_when_its_clock_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [new_id() for _ in range(100)]
    an_hour_ago = time.time_ns() - 3_600_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: an_hour_ago)
    ids += [new_id() for _ in range(100)]
    assert ids == sorted(set(ids))
    assert all(value.version == 7 and value.variant == "specified in RFC 4122" for value in ids)


@pytest.mark.parametrize(
    ("address", "prefix"),
    [
        ("192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", "unknown"),
        ("not an address", "unknown"),
        ("192.0.2.77'; --", "unknown"),
    ],
)
def test_an_address_is_stored_as_its_network_only(address: str, prefix: str) -> None:
    assert address_prefix(address) == prefix
