"""``pulsetrail log head`` and ``pulsetrail log verify``."""

from __future__ import annotations

import asyncio

import typer

from pulsetrail.cli.database import find_database
from pulsetrail.cli.output import Json, print_json, print_table
from pulsetrail.queries import Head, heads, reading
from pulsetrail.settings import load_settings
from pulsetrail.verification import CHECKS, Finding
from pulsetrail.verification import verify as run_checks

VERIFY_SECONDS = 3600.0

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
        return await heads(connection)


@log.command()
def verify(json: Json = False) -> int:
    """Check that the log holds together: no holes or doubles, one end for each connection, lanes and projections agree.

    Exit code 1 when something is wrong.

    Examples:

        pulsetrail log verify

        pulsetrail log verify --json | jq '.findings[]'
    """
    findings = asyncio.run(_verify())
    if json:
        print_json({"checks": CHECKS, "findings": [finding._asdict() for finding in findings]})
    else:
        print_table(
            ("check", "#shard", "what is wrong"), findings, empty=f"{len(CHECKS)} checks, and nothing is wrong."
        )
    return 1 if findings else 0


async def _verify() -> list[Finding]:
    url = find_database(load_settings())
    async with reading(url, application_name="pulsetrail verify", statement_seconds=VERIFY_SECONDS) as connection:
        return await run_checks(connection)
