"""`pulsetrail log verify`, the command itself, on copies of a database in each of which one thing was spoilt."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import pytest
from recorded_lives import Life, append, in_time, minted_in_turn, random_lives

from pulsetrail.close_codes import Reason
from pulsetrail.identity import new_id
from pulsetrail.log.postgres import PostgresLog
from pulsetrail.projections.runner import Projector, connect_pool

LANE = new_id()
FIRST, SECOND = Life("a", page="first page"), Life("b", page="second page")
"""Two connections of shard 0."""


class Planted(NamedTuple):
    """What is done to a copy, and the finding that has to name it. Triggers are off: nobody could do it by accident."""

    damage: str
    kind: str
    subject: str
    besides: frozenset[str] = frozenset()
    """Kinds of further findings, which follow from it; without them it has to be the only one."""


def one_more(like: int, changes: str) -> str:
    """One more event, with head and lane as if it had been appended in order."""
    return f"""
        UPDATE log_shard SET head_position = head_position + 1 WHERE shard = 0;
        UPDATE producer_lane SET stored = stored + 1, last_seq = last_seq + 1 WHERE shard = 0;
        INSERT INTO events SELECT (jsonb_populate_record(e, to_jsonb(s) || {changes})).*
        FROM (SELECT head_position AS position, head_recorded_at AS recorded_at FROM log_shard WHERE shard = 0) s,
             events e WHERE e.shard = 0 AND e.position = {like}"""  # noqa: S608  # parts of this file


def swap(one: int, other: int) -> str:
    return f"""
        UPDATE events SET position = -position WHERE shard = 0 AND position IN ({one}, {other});
        UPDATE events SET position = {one + other} + position WHERE shard = 0 AND position < 0"""  # noqa: S608  # parts of this file


DISAGREES = frozenset({"projection disagrees"})

EIGHT_KINDS = {
    "a hole": Planted("DELETE FROM events WHERE shard = 0 AND position = 3", "hole", "position 3", DISAGREES),
    "a double": Planted(one_more(3, "'{}'"), "double", "event {missed}", frozenset({"swapped"})),
    "a swapped pair": Planted(swap(4, 5), "swapped", "position 5"),
    "a missing end": Planted(
        "UPDATE events SET event_type = 'connection.unheard_of' WHERE shard = 0 AND position = 7",
        "no end",
        "connection {first}",
        DISAGREES,
    ),
    "two ends": Planted(
        one_more(7, "jsonb_build_object('event_id', 'ffffffff-ffff-7fff-8000-000000000000', 'connection_seq', 4)"),
        "two ends",
        "connection {first}",
    ),
    "a lane ahead": Planted(
        "UPDATE producer_lane SET last_seq = last_seq + 3 WHERE shard = 0", "lane ahead", f"producer {LANE}"
    ),
    "a lane behind": Planted(
        "UPDATE producer_lane SET last_seq = last_seq - 1 WHERE shard = 0", "lane behind", f"producer {LANE}"
    ),
    "a projection that disagrees": Planted(
        "UPDATE connections_v1 SET reason = 'normal' WHERE connection_id = '{first}'",
        "projection disagrees",
        "connections_v1 {first}",
    ),
}
"""The kinds that are promised, each in its plainest form."""

OTHER_FORMS = {
    "a hole at the end": Planted(
        "DELETE FROM events WHERE shard = 0 AND position = 9", "head", "position 8", DISAGREES | {"no end"}
    ),
    "a pair swapped across two appends": Planted(swap(5, 6), "swapped", "position 6", frozenset({"swapped"})),
    "a page's lane ahead": Planted(
        "UPDATE page_lane SET seen = seen + '{[7,9)}' WHERE page_id = 'first page'", "lane ahead", "page first page"
    ),
    "a page's lane behind": Planted(
        "DELETE FROM page_lane WHERE page_id = 'second page'", "lane behind", "page second page"
    ),
    "lanes that hold together more than there is": Planted(
        "UPDATE producer_lane SET last_seq = last_seq + 1, stored = stored + 1 WHERE shard = 0",
        "lane ahead",
        "all producers",
    ),
}


async def record_two_shards(url: str) -> dict[str, str]:
    """Some lives, folded; the node of shard 0 was lost an hour ago. Returns ids of shard 0 by the names used above."""
    told = minted_in_turn(
        [
            FIRST.open().events[-1],
            SECOND.open().events[-1],
            FIRST.miss(31).events[-1],
            FIRST.account("page.hidden", 32),
            SECOND.account("page.hidden", 32),
            FIRST.recover(33).events[-1],
            FIRST.close(60, Reason.PEER_RESET).events[-1],
            SECOND.account("page.visible", 61),
            SECOND.close(62).events[-1],
        ]
    )
    ended = {"connection.closed", "connection.lost"}
    others = [life for life in random_lives(7, 12, shard=2) if ended & {event.event_type for event in life.events}]
    log = await PostgresLog.connect(url, application_name="test")
    try:
        await append(log, told[:5], producer=LANE)
        await asyncio.sleep(0.002)
        await append(log, told[5:], producer=LANE, first_seq=6)
        await append(log, minted_in_turn(in_time(others)))
    finally:
        await log.close()
    async with await connect_pool(url) as pool:
        await Projector(pool).catch_up()
    owner = await asyncpg.connect(url)
    try:
        await owner.execute("UPDATE node_lease SET fenced_at = now() - interval '1 hour' WHERE node_id = 'otter-0'")
    finally:
        await owner.close()
    return {"first": str(FIRST.connection_id), "missed": str(told[2].event_id)}


def do(work: Coroutine[Any, Any, Any]) -> Any:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def spoil(url: str, damage: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"SET session_replication_role = replica; {damage}")
    finally:
        await connection.close()


CopyOf = Callable[[str], AbstractContextManager[str]]


@pytest.fixture(scope="module")
def original(copy_of: CopyOf, migrated_template: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Name of a database that is sound, and ids in it."""
    with copy_of(migrated_template) as url:
        yield urlsplit(url).path.removeprefix("/"), do(record_two_shards(url))


@pytest.fixture
def copy(copy_of: CopyOf, original: tuple[str, dict[str, str]]) -> Iterator[str]:
    """URL of a copy of it."""
    with copy_of(original[0]) as url:
        yield url


def verify(url: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, what the command says to programs, and what it says to people."""
    command = [sys.executable, "-P", "-m", "pulsetrail.cli", "log", "verify"]
    runs = [
        subprocess.Popen(
            [*command, *arguments], env={**os.environ, "DATABASE_URL": url}, stdout=subprocess.PIPE, text=True
        )
        for arguments in (["--json"], [])
    ]
    for_programs, for_people = (run.communicate(timeout=60)[0] for run in runs)
    codes = {run.returncode for run in runs}
    assert len(codes) == 1, f"it ends with {codes}"
    return codes.pop(), json.loads(for_programs), for_people


def test_nothing_is_found_in_an_intact_copy(copy: str) -> None:
    code, said, shown = verify(copy)
    assert (code, said["findings"], said["notes"], said["is_sound"]) == (0, [], [], True)
    assert len(said["projections"]) == 6
    assert shown == f"{said['events']} events in 4 shards and 6 projections: all is well.\n"


@pytest.mark.parametrize("name", [*EIGHT_KINDS, *OTHER_FORMS])
def test_what_was_planted_in_a_copy_is_named_with_its_place(
    copy: str, original: tuple[str, dict[str, str]], name: str
) -> None:
    planted, ids = {**EIGHT_KINDS, **OTHER_FORMS}[name], original[1]
    subject = planted.subject.format(**ids)
    do(spoil(copy, planted.damage.replace("{first}", ids["first"])))
    code, said, shown = verify(copy)
    assert (code, said["is_sound"]) == (1, False)
    found = [(finding["kind"], finding["shard"], finding["subject"]) for finding in said["findings"]]
    assert found.count((planted.kind, 0, subject)) == 1, found
    assert {kind for kind, _, _ in found if (kind, 0, subject) != (planted.kind, 0, subject)} <= planted.besides, found
    if not planted.besides:
        assert len(found) == 1, found
    assert any(line.strip().startswith(f"{planted.kind} ") and subject in line for line in shown.splitlines()), shown
