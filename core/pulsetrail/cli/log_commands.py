"""``pulsetrail log head`` and ``pulsetrail log verify``."""

from __future__ import annotations

import asyncio
import sys

import msgspec
import typer

from pulsetrail.cli.database import find_database
from pulsetrail.cli.output import Json, print_json, print_table, say
from pulsetrail.queries import Head, heads, reading, talking
from pulsetrail.settings import load_settings
from pulsetrail.verify import Report
from pulsetrail.verify import verify as look_at_everything

log = typer.Typer(help="Look at the event log itself.", no_args_is_help=True)


@log.command()
def head(json: Json = False) -> None:
    """Show where each shard of the log ends.

    Examples:

        pulsetrail log head

        pulsetrail log head --json
    """
    found = asyncio.run(_heads())
    if json:
        print_json([shard._asdict() for shard in found])
    else:
        print_table(("#shard", "#head", "recorded (UTC)", "#oldest"), found, empty="The log has no shards.")


async def _heads() -> list[Head]:
    async with reading(find_database(load_settings()), application_name="pulsetrail log head") as connection:
        found = await heads(connection)
    # The time of a shard that holds nothing yet is the epoch, which nobody recorded anything at.
    return [head if head.head_position else head._replace(head_recorded_at=None) for head in found]


@log.command()
def verify(json: Json = False) -> int:
    """Check that the log holds together: no holes or doubles, one end for each connection, lanes and projections agree.

    Exit code 1 when something is wrong.

    Examples:

        pulsetrail log verify

        pulsetrail log verify --json | jq '.findings[]'
    """
    report = asyncio.run(_verify())
    if json:
        print_json({**msgspec.structs.asdict(report), "is_sound": report.is_sound})
    else:
        rows = ((finding.kind, finding.shard, finding.subject, finding.detail) for finding in report.findings)
        sound = (
            f"{report.events} events in {report.shards} shards and {len(report.projections)} projections: all is well."
        )
        print_table(("what", "#shard", "where", "what is wrong"), rows, empty=sound)
        for note in report.notes:
            say(note)
    return 0 if report.is_sound else 1


async def _verify() -> Report:
    async with talking(find_database(load_settings()), application_name="pulsetrail verify") as connection:
        return await look_at_everything(connection, progress=_progress if sys.stderr.isatty() else None)


def _progress(what: str, done: int, total: int) -> None:
    sys.stderr.write(f"\r\x1b[K{what}: {done} of {total}")
    if done == total:
        sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()
