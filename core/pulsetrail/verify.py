"""Does the log keep its promises? Looks at everything, changes nothing, and names what it finds, one line each.

The projections are checked by folding the log again into temporary tables, as far as each checkpoint says, and
comparing row by row; all in one snapshot, which is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import MetaData

from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.balances import copy_rows
from pulsetrail.projections.folding import DATA_ERRORS, Connection
from pulsetrail.projections.projection import Projection
from pulsetrail.statements import load_statements

_SQL: Final = load_statements("pulsetrail", "verify.sql")

FINDINGS_LIMIT: Final = 100
"""Findings of one kind and shard that are named; what goes beyond is only said to exist."""
GRACE_SECONDS: Final = 60.0
"""How long after a node's end its connections may still wait for theirs."""
_STEP: Final = 20_000
_SCRATCH_BUILD: Final = 999_999
"""A number that no build will have: temporary tables hide others of the same name."""

_EMPTY: Final = "{}"
_INTERVALS_SHOWN: Final = 5

_ALWAYS: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
"""Whatever is wrong with ``recorded_at``, here the position alone decides what is folded."""

Progress = Callable[[str, int, int], None]
"""Told what is looked at, how much of it is done, and how much there is."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong."""

    kind: str
    """Such as ``hole``, ``two ends`` or ``projection disagrees``; the tests have them all."""
    shard: int
    subject: str
    """Position, connection, event, lane or row."""
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: shard {self.shard}, {self.subject}: {self.detail}"


class Report(msgspec.Struct, frozen=True):
    """What was looked at and what was found."""

    events: int
    shards: int
    projections: list[str]
    """Compared with the log, row by row."""
    findings: list[Finding]
    notes: list[str]
    """What could not be looked at, and why."""

    @property
    def is_sound(self) -> bool:
        """Nothing is wrong."""
        return not self.findings


async def verify(
    connection: Connection,
    *,
    progress: Progress | None = None,
    grace_seconds: float = GRACE_SECONDS,
    compare_projections: bool = True,
) -> Report:
    """Check the whole log. ``connection`` must be allowed to make temporary tables, and not be read-only."""
    tell = progress or (lambda _what, _done, _total: None)
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    try:
        await connection.execute(_SQL["settings"])
        findings: list[Finding] = []
        notes: list[str] = []
        shards = await connection.fetch(_SQL["shards"])
        events = 0
        for number, shard in enumerate(shards):
            tell("order, doubles and ends", number, len(shards))
            found, count = await _look_at_shard(connection, shard, grace_seconds)
            findings += found
            events += count
        tell("order, doubles and ends", len(shards), len(shards))
        compared: list[str] = []
        if compare_projections:
            for projection in PROJECTIONS.values():
                more, note = await _compare(connection, projection, tell)
                findings += more
                notes += note
                compared.append(projection.name)
    finally:
        await transaction.rollback()
    return Report(events, len(shards), compared, findings, notes)


async def _look_at_shard(connection: Connection, row: Any, grace: float) -> tuple[list[Finding], int]:
    shard, head, first = row["shard"], row["head_position"], row["truncated_before"]
    limit = FINDINGS_LIMIT
    findings = [_of_order(shard, wrong) for wrong in await connection.fetch(_SQL["order"], shard, first, limit)]
    extent = await connection.fetchrow(_SQL["extent"], shard)
    last = extent["last"] if extent["last"] is not None else first - 1
    if last != head:
        findings.append(Finding("head", shard, f"position {last}", f"the log ends here, its head says {head}"))
    named = {finding.subject for finding in findings}
    turns = [_of_turns(shard, wrong) for wrong in await connection.fetch(_SQL["turns"], shard, limit)]
    findings += [finding for finding in turns if finding.subject not in named]
    findings += await _look_at_lanes(connection, row)
    for wrong in await connection.fetch(_SQL["double_events"], shard, limit):
        detail = f"{wrong['times']} times, at positions {wrong['first']} to {wrong['last']}"
        findings.append(Finding("double", shard, f"event {wrong['event_id']}", detail))
    for wrong in await connection.fetch(_SQL["double_accounts"], shard, limit):
        detail = f"{wrong['times']} times, at positions {wrong['first']} to {wrong['last']}"
        subject = f"page {wrong['page_id']}, sequence {wrong['seq']}"
        findings.append(Finding("double account", shard, subject, detail))
    for wrong in await connection.fetch(_SQL["ends"], shard, limit, grace, first <= 1):
        detail = f"{wrong['openings']} openings, {wrong['endings']} ends; node {wrong['node_id']}/{wrong['node_epoch']}"
        findings.append(Finding(wrong["kind"], shard, f"connection {wrong['connection_id']}", detail))
    for wrong in await connection.fetch(_SQL["gaps"], shard, limit):
        detail = f"{wrong['missing']} events never reached the log"
        findings.append(Finding("source gap", shard, f"{wrong['kind']} {wrong['subject']}", detail))
    return findings, extent["events"]


async def _look_at_lanes(connection: Connection, row: Any) -> list[Finding]:
    """What sends again is kept out by a lane: one that is ahead would lose events, one that is behind double them."""
    shard, head, stored = row["shard"], row["head_position"], row["lanes_stored"]
    findings = []
    if stored != head:
        detail = f"stored {stored} rows, the log has had {head}"
        findings.append(Finding(_ahead_or_behind(stored, head), shard, "all producers", detail))
    for wrong in await connection.fetch(_SQL["lanes"], shard, FINDINGS_LIMIT):
        last, accounted = wrong["last_seq"], wrong["stored"] + wrong["skipped"]
        detail = f"at row {last}, but {accounted} are accounted for: {wrong['stored']} stored, {wrong['skipped']} not"
        findings.append(Finding(_ahead_or_behind(last, accounted), shard, f"producer {wrong['producer_id']}", detail))
    whole = row["truncated_before"] <= 1
    for wrong in await connection.fetch(_SQL["page_lanes"], shard, FINDINGS_LIMIT, whole):
        subject = f"page {wrong['page_id']}"
        if wrong["missing"] != _EMPTY:
            detail = f"holds sequences {_intervals(wrong['missing'])}, which are not in the log"
            findings.append(Finding("lane ahead", shard, subject, detail))
        if wrong["unseen"] != _EMPTY:
            detail = f"lacks sequences {_intervals(wrong['unseen'])}, which are in the log"
            findings.append(Finding("lane behind", shard, subject, detail))
    return findings


def _ahead_or_behind(lane: int, log: int) -> str:
    return "lane ahead" if lane > log else "lane behind"


def _intervals(multirange: str) -> str:
    """A multirange of whole numbers as people write it: ``{[3,4),[7,10)}`` is "3, 7 to 9"."""
    bounds = [tuple(map(int, part.split(","))) for part in multirange.strip("{[)}").split("),[")]
    shown = [str(first) if first == end - 1 else f"{first} to {end - 1}" for first, end in bounds[:_INTERVALS_SHOWN]]
    return ", ".join(shown) + (f" and {len(bounds) - len(shown)} more" if len(bounds) > len(shown) else "")


def _of_turns(shard: int, row: Any) -> Finding:
    detail = (
        f"number {row['connection_seq']} of connection {row['connection_id']}, "
        f"after its number {row['before_seq']} at position {row['before_position']}"
    )
    return Finding("swapped", shard, f"position {row['position']}", detail)


def _of_order(shard: int, row: Any) -> Finding:
    kind, position = row["kind"], row["position"]
    if kind == "hole":
        first, last = row["before_position"] + 1, position - 1
        places = f"position {first}" if first == last else f"positions {first} to {last}"
        return Finding(kind, shard, places, f"missing; {last - first + 1} events")
    if kind == "double position":
        return Finding(kind, shard, f"position {position}", f"again as event {row['event_id']}")
    if row["recorded_at"] < row["before_recorded_at"]:
        detail = f"recorded at {row['recorded_at']}, before its predecessor at {row['before_recorded_at']}"
    else:
        detail = f"event {row['event_id']} was made before its predecessor in the same append, {row['before_event_id']}"
    return Finding(kind, shard, f"position {position}", detail)


async def _compare(connection: Connection, projection: Projection, tell: Progress) -> tuple[list[Finding], list[str]]:
    findings: list[Finding] = []
    notes: list[str] = []
    for statement in projection.ddl(_SCRATCH_BUILD):
        await connection.execute(statement.replace("CREATE TABLE", "CREATE TEMPORARY TABLE", 1))
    rows = await connection.fetch(_SQL["checkpoints"], projection.name)
    if any(row["balance"] for row in rows):
        await copy_rows(connection, projection, _SCRATCH_BUILD)
    for row in rows:
        shard = row["shard"]
        if row["position"] > row["head_position"]:
            subject = f"projection {projection.name}"
            findings.append(Finding("checkpoint", shard, subject, f"at {row['position']}, past the log's head"))
        if row["status"] == "degraded":
            detail = "an event could not be folded, or is missing; rebuild it"
            findings.append(Finding("degraded", shard, f"projection {projection.name}", detail))
        start = row["balance"] or 0
        if start < row["truncated_before"] - 1:
            notes.append(
                f"Projection {projection.name}, shard {shard}, cannot be compared: retention has dropped the events "
                f"before position {row['truncated_before']} and there are no opening balances."
            )
            continue
        await _fold(connection, projection, shard, start, row["position"], tell)
        findings += await _differences(connection, projection, row["version"], shard)
    return findings, notes


async def _fold(
    connection: Connection, projection: Projection, shard: int, after: int, through: int, tell: Progress
) -> None:
    while after < through:
        tell(f"projection {projection.name}, shard {shard}", after, through)
        until = min(after + _STEP, through)
        await _fold_what_can_be(connection, projection, shard, after, until)
        after = until


async def _fold_what_can_be(
    connection: Connection, projection: Projection, shard: int, after: int, through: int
) -> None:
    """Fold a range; an event that cannot be folded is left out, as the projector leaves it out."""
    try:
        async with connection.transaction():
            await connection.execute(projection.fold(_SCRATCH_BUILD), shard, after, through, *_ALWAYS)
    except DATA_ERRORS:
        if through - after > 1:
            middle = (after + through) // 2
            await _fold_what_can_be(connection, projection, shard, after, middle)
            await _fold_what_can_be(connection, projection, shard, middle, through)


async def _differences(connection: Connection, projection: Projection, build: int, shard: int) -> list[Finding]:
    findings: list[Finding] = []
    live, folded = projection.names(build), projection.names(_SCRATCH_BUILD)
    for stem, table in zip(projection.stems, projection.define(MetaData(), build), strict=True):
        beside_key = [column.name for column in table.columns if not column.primary_key]
        statement = _SQL["differing"].replace("{live}", live[stem]).replace("{folded}", folded[stem])
        for row in await connection.fetch(statement, shard, beside_key, FINDINGS_LIMIT):
            key, left, right = (_as_object(row[name]) for name in ("row_key", "live", "folded"))
            subject = " ".join(str(value) for name, value in key.items() if name != "shard")
            findings.append(
                Finding("projection disagrees", shard, f"{table.name} {subject}".rstrip(), _difference(left, right))
            )
    return findings


def _as_object(value: Any) -> dict[str, Any]:
    """A jsonb value, whether or not the connection decodes them."""
    if isinstance(value, str):
        value = msgspec.json.decode(value)
    return value or {}


def _difference(live: dict[str, Any], folded: dict[str, Any]) -> str:
    if not live:
        return "the log says that there is such a row, the projection has none"
    if not folded:
        return "the projection has such a row, the log says nothing of it"
    wrong = (name for name in live if live[name] != folded[name])
    return "; ".join(f"{name} is {live[name]}, the log says {folded[name]}" for name in wrong)
