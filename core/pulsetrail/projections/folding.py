"""One batch of one build and one shard: read, assert, fold, advance; all in one transaction, or not at all.

Why no event is skipped: append gives positions without gaps and in the order of the commits (the head row's lock), so
what is visible after a position is what follows it. This reader does not hope for that: a batch is folded only as far
as ``position = previous + 1`` holds, and a hole is an error.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple, TypeAlias

import asyncpg

from pulsetrail.projections.projection import Projection
from pulsetrail.statements import load_statements

SQL: Final = load_statements("pulsetrail.projections", "runner.sql")

BATCH_EVENTS: Final = 5_000
"""Events of one fold, at most. Larger ones gain nothing and hold the read model's rows longer."""

NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)

DATA_ERRORS: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""What an event's own content can cause; everything else is the database's trouble and is tried again for ever."""

Connection: TypeAlias = "asyncpg.Connection | asyncpg.pool.PoolConnectionProxy"


class Unit(NamedTuple):
    """What is folded by itself: one build of one projection in one shard."""

    projection: Projection
    build: int
    shard: int
    is_building: bool = False


class Folded(NamedTuple):
    """What one step did."""

    events: int
    """Events folded; 0: nothing is there, or another projector leads."""
    is_caught_up: bool
    poisoned: int = 0
    """Events that were set aside."""


class LogHole(Exception):
    """The log does not go on where the checkpoint stands; nothing after the hole may be folded."""

    def __init__(self, unit: Unit, position: int) -> None:
        super().__init__(unit, position)
        self.unit = unit
        self.position = position

    def __str__(self) -> str:
        return (
            f"Shard {self.unit.shard} has no event at position {self.position}, but later ones; "
            f"projection {self.unit.projection.name} stops there. Run: pulsetrail log verify."
        )


async def fold_batch(
    connection: Connection,
    unit: Unit,
    *,
    limit: int = BATCH_EVENTS,
    before: datetime = NEVER,
    set_aside_poison: bool = False,
) -> Folded:
    """Fold the next batch, of what was recorded before ``before``.

    With ``set_aside_poison`` an event that cannot be folded goes to ``dead_letter`` and the others are folded.

    Raises:
        LogHole: the next event is missing.
        asyncpg.PostgresError: nothing was changed.
    """
    key = (unit.shard, unit.projection.name, unit.build)
    async with connection.transaction():
        checkpoint = await connection.fetchrow(SQL["take"], *key)
        if checkpoint is None:
            return Folded(0, True)
        after, since = checkpoint["position"], checkpoint["recorded_at"]
        batch = await connection.fetchrow(SQL["measure"], unit.shard, after, since, limit, before)
        if batch["contiguous"] == 0:
            if batch["found"]:
                raise LogHole(unit, after + 1)
            return Folded(0, True)
        through, until = after + batch["contiguous"], batch["recorded_at"]
        poisoned = 0
        if set_aside_poison:
            poisoned = await _fold_around_poison(connection, unit, after, through, since, until)
        else:
            await connection.execute(unit.projection.fold(unit.build), unit.shard, after, through, since, until)
        if poisoned:
            await connection.execute(SQL["degrade"], *key)
        moved = await connection.execute(SQL["advance"], *key, after, through, until)
        if moved != "UPDATE 1":
            raise asyncpg.SerializationError("the checkpoint moved under its own lock")
    return Folded(through - after, batch["found"] < limit, poisoned)


async def _fold_around_poison(
    connection: Connection, unit: Unit, after: int, through: int, since: datetime, until: datetime
) -> int:
    """Fold ``(after, through]`` by halves, each in a savepoint, until what fails is one event; set those aside."""
    try:
        async with connection.transaction():
            await connection.execute(unit.projection.fold(unit.build), unit.shard, after, through, since, until)
    except DATA_ERRORS as error:
        if through - after == 1:
            await connection.execute(SQL["set_aside"], unit.shard, through, unit.projection.name, str(error))
            return 1
        middle = (after + through) // 2
        first = await _fold_around_poison(connection, unit, after, middle, since, until)
        return first + await _fold_around_poison(connection, unit, middle, through, since, until)
    return 0
