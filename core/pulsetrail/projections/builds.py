"""Builds: list them, make a new one beside the live one, put the views in front of it.

Each function is one transaction on the connection it is given, which needs the owner's rights for everything but
``builds``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import MetaData
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import DropTable

from pulsetrail.errors import UsageError
from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.balances import copy_balances
from pulsetrail.projections.folding import SQL as RUNNER
from pulsetrail.projections.folding import Connection
from pulsetrail.projections.projection import Projection
from pulsetrail.statements import load_statements

_SQL: Final = load_statements("pulsetrail.projections", "builds.sql")


class BuildRefused(UsageError):
    """A projection cannot be rebuilt, promoted or paused like that; ``detail`` says why and what to do."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __str__(self) -> str:
        return self.detail


class BuildState(NamedTuple):
    """Where one build stands; the lag is measured against the real head of the log."""

    projection: str
    build: int
    fold_version: int
    status: str
    """``live`` or ``building``; with ``paused`` and ``degraded`` beside it."""
    paused: bool
    degraded: bool
    """It has a poison event set aside, or stands before a hole; until it is rebuilt."""
    lag_events: int
    lag_seconds: float
    """Age of the oldest event that is not folded."""
    dead_letters: int
    created_at: datetime
    promoted_at: datetime | None


def projection_named(name: str) -> Projection:
    """The projection.

    Raises:
        BuildRefused: there is none of that name.
    """
    try:
        return PROJECTIONS[name]
    except KeyError:
        raise BuildRefused(f"There is no projection {name}; there are {', '.join(PROJECTIONS)}.") from None


async def builds(connection: Connection) -> list[BuildState]:
    """Every build that is live or being filled."""
    return [
        BuildState(
            projection=row["projection"],
            build=row["version"],
            fold_version=row["fold_version"],
            status=row["status"],
            paused=row["paused"],
            degraded=row["degraded"],
            lag_events=row["lag_events"],
            lag_seconds=max(row["lag_seconds"], 0.0),
            dead_letters=row["dead_letters"],
            created_at=row["created_at"],
            promoted_at=row["promoted_at"],
        )
        for row in await connection.fetch(RUNNER["lag"])
    ]


async def rebuild(connection: Connection, name: str) -> int:
    """Begin a new build beside the live one, from the opening balances or the oldest event; its number.

    Any projector fills it.

    Raises:
        BuildRefused: there is no such projection, or one is being built already.
    """
    projection = projection_named(name)
    async with connection.transaction():
        await connection.execute(_SQL["act_as_owner"])
        for row in await connection.fetch(_SQL["builds"], name):
            if row["status"] == "building":
                raise BuildRefused(
                    f"Build {row['version']} of {name} is being filled; promote it or cancel it before the next one."
                )
        build: int = await connection.fetchval(_SQL["begin"], name, projection.version)
        for statement in projection.ddl(build):
            await connection.execute(statement)
        for table in projection.names(build).values():
            await connection.execute(_SQL["grant"], table)
        if not await copy_balances(connection, projection, build):
            await connection.execute(_SQL["enrol"], name, build)
    return build


async def promote(connection: Connection, name: str) -> int:
    """Put the views in front of the build that is being filled and drop the one that was live; the build's number.

    Raises:
        BuildRefused: there is no such build, or it has not caught up with the live one.
    """
    projection = projection_named(name)
    async with connection.transaction():
        await connection.execute(_SQL["act_as_owner"])
        rows = {row["status"]: row for row in await connection.fetch(_SQL["builds"], name)}
        if "building" not in rows:
            raise BuildRefused(f"No build of {name} is being filled; start one with: pulsetrail projections rebuild.")
        new, old = rows["building"]["version"], rows["live"]["version"]
        places = {(row["shard"], row["version"]): row["position"] for row in await connection.fetch(_SQL["hold"], name)}
        behind = sum(
            max(position - places.get((shard, new), 0), 0)
            for (shard, version), position in places.items()
            if version == old
        )
        if behind:
            raise BuildRefused(f"Build {new} of {name} is {behind} events behind the live one; try again later.")
        for statement in projection.views(new):
            await connection.execute(statement)
        await connection.execute(_SQL["make_live"], name, new)
        await connection.execute(_SQL["make_checkpoints_live"], name, new)
        await _drop(connection, projection, old)
    return int(new)


async def cancel(connection: Connection, name: str) -> int:
    """Give up the build that is being filled; its number.

    Raises:
        BuildRefused: there is none.
    """
    projection = projection_named(name)
    async with connection.transaction():
        await connection.execute(_SQL["act_as_owner"])
        rows = {row["status"]: row for row in await connection.fetch(_SQL["builds"], name)}
        if "building" not in rows:
            raise BuildRefused(f"No build of {name} is being filled.")
        build: int = rows["building"]["version"]
        await connection.fetch(_SQL["hold"], name)
        await _drop(connection, projection, build)
    return build


async def pause(connection: Connection, name: str, *, paused: bool = True) -> None:
    """Stop (or resume) the folding of every build of a projection, after the batches that are being folded.

    Raises:
        BuildRefused: there is no such projection.
    """
    projection_named(name)
    async with connection.transaction():
        await connection.execute(_SQL["act_as_owner"])
        await connection.fetch(_SQL["hold"], name)
        await connection.execute(_SQL["pause"], name, paused)


async def _drop(connection: Connection, projection: Projection, build: int) -> None:
    await connection.execute(_SQL["retire"], projection.name, build)
    await connection.execute(_SQL["forget"], projection.name, build)
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves this constructor untyped
    for table in projection.define(MetaData(), build):
        await connection.execute(str(DropTable(table).compile(dialect=dialect)))
