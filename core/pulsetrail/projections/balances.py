"""Opening balances: what retention drops from the log stays in the totals, and rebuilt still equals live.

Of every projection there is a build 0 that no view shows. It is folded only through the events that retention is about
to drop; a rebuild begins as a copy of it and folds what is left. Its checkpoint counts like any other, so retention
drops nothing that is not in it.

What is over and older than retention is deleted from the live build and from build 0 in one transaction. Build 0 has
folded every event that those rows were made of, so both lose the same rows, and an event that comes later still makes
the same new row in both.
"""

from __future__ import annotations

from typing import Final

from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.folding import Connection, Unit, fold_batch
from pulsetrail.projections.projection import Projection
from pulsetrail.statements import load_statements

SQL: Final = load_statements("pulsetrail.projections", "balances.sql")
_BUILDS: Final = load_statements("pulsetrail.projections", "builds.sql")
BALANCE: Final = 0
"""Number of the build that holds the opening balances."""


async def carry_forward(connection: Connection, *, days: int) -> None:
    """Fold what is older than ``days`` days (UTC) into the opening balances, and forget rows that are over since then.

    Call it before ``partitions.retain`` with the same ``days``. The connection needs the owner's rights and must
    not be in a transaction. What fails is taken up again by the next call.
    """
    boundary = await connection.fetchval(SQL["boundary"], days)
    shards = [row["shard"] for row in await connection.fetch(SQL["shards"])]
    for projection in PROJECTIONS.values():
        async with connection.transaction():
            await connection.execute(_BUILDS["act_as_owner"])
            if await connection.execute(SQL["begin"], projection.name, projection.version) == "INSERT 0 1":
                for statement in projection.ddl(BALANCE):
                    await connection.execute(statement)
                for table in projection.names(BALANCE).values():
                    await connection.execute(_BUILDS["grant"], table)
            await connection.execute(SQL["enrol"], projection.name)
        for shard in shards:
            unit = Unit(projection, BALANCE, shard)
            while not (await fold_batch(connection, unit, before=boundary, set_aside_poison=True)).is_caught_up:
                pass
        async with connection.transaction():
            await connection.execute(_BUILDS["act_as_owner"])
            builds = {
                row["status"]: row["version"] for row in await connection.fetch(_BUILDS["builds"], projection.name)
            }
            await connection.fetch(_BUILDS["hold"], projection.name)
            # A build that is being filled would make the rows again that are deleted under it.
            if "building" not in builds:
                live, balance = projection.names(builds["live"]), projection.names(BALANCE)
                for stem in projection.stems:
                    if f"prune_{stem}" in SQL:
                        prune = SQL[f"prune_{stem}"].replace("{live}", live[stem]).replace("{balance}", balance[stem])
                        for shard in shards:
                            await connection.execute(prune, shard, boundary)


async def copy_balances(connection: Connection, projection: Projection, build: int) -> bool:
    """Begin an empty build with the opening balances; whether there are any. For use inside a transaction."""
    await connection.fetch(_BUILDS["hold"], projection.name)
    if await connection.execute(SQL["copy_checkpoints"], projection.name, build) == "INSERT 0 0":
        return False
    await copy_rows(connection, projection, build)
    return True


async def copy_rows(connection: Connection, projection: Projection, build: int) -> None:
    """Copy the balances' rows into the tables of another build."""
    source, target = projection.names(BALANCE), projection.names(build)
    for stem in projection.stems:
        await connection.execute(SQL["copy"].replace("{target}", target[stem]).replace("{source}", source[stem]))
