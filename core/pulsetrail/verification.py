"""``pulsetrail log verify``: what must hold in every log, asked of the one that is there.

All checks see one snapshot, so that a log that is being written to is not accused of what happens in between.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pulsetrail.statements import load_statements

_SQL: Final = load_statements("pulsetrail", "verification.sql")
CHECKS: Final = tuple(_SQL)
MOST_PER_CHECK: Final = 20


class Finding(NamedTuple):
    """One thing that is wrong."""

    check: str
    shard: int
    detail: str


async def verify(connection: Any) -> list[Finding]:
    """Everything that is wrong, at most ``MOST_PER_CHECK`` findings of a kind; empty for a log that holds together."""
    findings = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for check, statement in _SQL.items():
            rows = await connection.fetch(statement, MOST_PER_CHECK)
            findings += [Finding(check, row["shard"], row["detail"]) for row in rows]
    return findings
