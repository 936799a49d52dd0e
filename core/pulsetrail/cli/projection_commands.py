"""``pulsetrail projections``: what is folded how far, and rebuilding it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from pulsetrail.cli.database import find_database
from pulsetrail.cli.output import Json, print_json, print_table, say
from pulsetrail.queries import reading, talking
from pulsetrail.settings import load_settings

if TYPE_CHECKING:
    from pulsetrail.projections.builds import BuildState

projections = typer.Typer(help="Look at the projections, rebuild them beside the live ones.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="PROJECTION", help="A name from: pulsetrail projections list.")]


@projections.command("list")
def list_builds(json: Json = False) -> None:
    """List the projections, their builds and how they stand.

    Examples:

        pulsetrail projections list
    """
    found = asyncio.run(_states())
    if json:
        print_json([state._asdict() for state in found])
        return
    rows = ((s.projection, s.build, s.fold_version, _status(s), s.dead_letters, s.created_at) for s in found)
    columns = ("projection", "#build", "#fold version", "status", "#dead letters", "begun (UTC)")
    print_table(columns, rows, empty="There are no projections.")


@projections.command()
def lag(json: Json = False) -> None:
    """Show how far each projection is behind the real head of the log.

    Examples:

        pulsetrail projections lag

        pulsetrail projections lag --json | jq 'map(.lag_events) | add'
    """
    found = asyncio.run(_states())
    if json:
        names = ("projection", "build", "lag_events", "lag_seconds")
        print_json([{name: getattr(state, name) for name in names} for state in found])
        return
    rows = ((s.projection, s.build, _status(s), s.lag_events, f"{s.lag_seconds:.1f} s") for s in found)
    print_table(("projection", "#build", "status", "#events", "#time"), rows, empty="There are no projections.")


@projections.command()
def rebuild(name: Name, json: Json = False) -> None:
    """Begin a new build beside the live one; any running projector fills it.

    Examples:

        pulsetrail projections rebuild connections
    """
    build = _changed("rebuild", name)
    _done(json, name, build, f"Build {build} of {name} has begun; promote it when it has caught up.")


@projections.command()
def promote(name: Name, json: Json = False) -> None:
    """Put the build that has caught up in the place of the live one, in one step.

    Examples:

        pulsetrail projections promote connections
    """
    build = _changed("promote", name)
    _done(json, name, build, f"Build {build} of {name} is live.")


@projections.command()
def cancel(name: Name, json: Json = False) -> None:
    """Give up the build that is being filled.

    Examples:

        pulsetrail projections cancel connections
    """
    build = _changed("cancel", name)
    _done(json, name, build, f"Build {build} of {name} is given up.")


@projections.command()
def pause(
    name: Name, resume: Annotated[bool, typer.Option("--resume", help="Fold again.")] = False, json: Json = False
) -> None:
    """Stop the folding of a projection, or go on with it; nothing is lost meanwhile.

    Examples:

        pulsetrail projections pause closes

        pulsetrail projections pause closes --resume
    """
    _changed("pause", name, paused=not resume)
    _done(json, name, None, f"{name} {'is folded again' if resume else 'is paused'}.")


def _done(json: bool, name: str, build: int | None, sentence: str) -> None:
    if json:
        print_json({"projection": name, "build": build})
    else:
        say(sentence)


def _status(state: BuildState) -> str:
    beside = [word for word, holds in (("paused", state.paused), ("degraded", state.degraded)) if holds]
    return ", ".join([state.status, *beside])


async def _states() -> list[BuildState]:
    from pulsetrail.projections.builds import builds  # here: SQLAlchemy takes a while to import

    async with reading(find_database(load_settings()), application_name="pulsetrail projections") as connection:
        return await builds(connection)


def _changed(change: str, name: str, **options: bool) -> int | None:
    """Make one of the changes of ``projections.builds``; the number of the build, if it is about one."""
    from pulsetrail.projections import builds  # here: SQLAlchemy takes a while to import

    async def make() -> int | None:
        async with talking(find_database(load_settings()), application_name="pulsetrail projections") as connection:
            build: int | None = await getattr(builds, change)(connection, name, **options)
            return build

    return asyncio.run(make())
