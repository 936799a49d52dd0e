"""``pulsetrail history`` and ``pulsetrail tail``: what happened, and what is happening."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.markup import escape

from pulsetrail.cli.database import find_database
from pulsetrail.cli.output import Json, cell, console, print_json, print_json_line, print_table
from pulsetrail.errors import NotOnRecord
from pulsetrail.events import CATALOGUE
from pulsetrail.identity import client_ref
from pulsetrail.queries import History, Row, deployment, following, heads, newest, reading
from pulsetrail.queries import history as ask_history
from pulsetrail.settings import load_settings

POLL_SECONDS = 0.25


def history(
    subject: Annotated[str, typer.Argument(metavar="CLIENT|CONNECTION", help="A client's id, or a connection's.")],
    json: Json = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Connections of a client to show, newest first.")] = 50,
) -> None:
    """Tell what is on record of a client, or of one connection with its timeline and evidence.

    Examples:

        pulsetrail history alice

        pulsetrail history 01931f7e-89ab-7cde-8f01-23456789abcd

        pulsetrail history alice --json | jq '.connections[] | {opened_at, reason, initiator}'
    """
    found = asyncio.run(_history(subject, limit))
    if json:
        print_json(found._asdict())
    elif found.subject == "connection":
        _print_connection(found)
    else:
        _print_client(found)


async def _history(subject: str, limit: int) -> History:
    async with reading(find_database(load_settings()), application_name="pulsetrail history") as connection:
        found = await ask_history(connection, subject, limit=limit)
    if found is None:
        raise NotOnRecord("client or connection", subject)
    return found


def _print_client(found: History) -> None:
    if found.client is not None:
        client = found.client
        console().print(
            f"client {escape(str(client['client_id'] or client['client_ref']))}: {client['open_connections']} open, "
            f"{client['connections_opened']} opened, last seen {cell(client['last_seen_at'])}",
            highlight=False,
        )
    rows = (
        (
            row["opened_at"],
            row["ended_at"] or "open",
            row["reason"],
            row["initiator"],
            row["wire_code"],
            _seconds(row["duration_ms"]),
            row["heartbeats_missed"] or "",
            _seconds(row["gap_ms"]),
            row["node_id"],
            row["connection_id"],
        )
        for row in found.connections
    )
    columns = (
        "opened (UTC)",
        "ended",
        "reason",
        "initiator",
        "#code",
        "#lasted",
        "#missed",
        "#gap before",
        "node",
        "id",
    )
    print_table(columns, rows, empty="No connections are on record.")


def _print_connection(found: History) -> None:
    row = found.connections[0]
    shown = {key: value for key, value in row.items() if value is not None and key not in ("evidence", "layers")}
    for title, values in (("", shown), ("evidence", row["evidence"]), ("layers", row["layers"])):
        if values:
            print_table((title, ""), [(key, value) for key, value in values.items() if value is not None], empty="")
    print_table(
        ("happened (UTC)", "event", "by", "reason", "#code", "what"),
        (
            (e["occurred_at"], e["event_type"], e["source"], e["reason"], e["close_code"], _flat(e["payload"]))
            for e in found.events
        ),
        empty="Its events are no longer in the log.",
    )


def tail(
    json: Json = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="Events to show first.")] = 20,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Go on with new events as they come.")] = True,
    event_type: Annotated[list[str] | None, typer.Option("--type", help="Only these types; may be repeated.")] = None,
    client: Annotated[str | None, typer.Option(help="Only this client, by its id.")] = None,
) -> None:
    """Show the newest events of the log, and new ones as they come. With --json, one object a line.

    Examples:

        pulsetrail tail

        pulsetrail tail --type connection.closed --type connection.lost

        pulsetrail tail --no-follow -n 1000 --json | jq -r .event_type | sort | uniq -c
    """
    for name in event_type or ():
        if name not in CATALOGUE:
            raise typer.BadParameter(f"{name!r} is no type of event; there are {', '.join(sorted(CATALOGUE))}.")
    asyncio.run(_tail(json=json, limit=limit, follow=follow, types=event_type, client=client))


async def _tail(*, json: bool, limit: int, follow: bool, types: Sequence[str] | None, client: str | None) -> None:
    async with reading(find_database(load_settings()), application_name="pulsetrail tail") as connection:
        ref = None if client is None else client_ref((await deployment(connection)).client_key, client)
        at = await heads(connection)
        for row in await newest(connection, at, limit=limit, types=types, client=ref):
            _print_event(row, json)
        places = {head.shard: (head.head_position, head.head_recorded_at) for head in at}
        while follow:
            came = 0
            for shard, place in places.items():
                for row in await following(connection, shard, *place):
                    places[shard] = row["position"], row["recorded_at"]
                    came += 1
                    if (not types or row["event_type"] in types) and (ref is None or row["client_ref"] == ref):
                        _print_event(row, json)
            if not came:
                await asyncio.sleep(POLL_SECONDS)


def _print_event(row: Row, json: bool) -> None:
    if json:
        print_json_line(row)
        return
    parts = [
        cell(row["occurred_at"]),
        f"{row['event_type']:<24}",
        *(cell(row[name]) for name in ("reason", "close_code", "node_id") if row[name] is not None),
        *(f"{name}={row[key]}" for name, key in (("connection", "connection_id"),) if row[key] is not None),
        cell(_flat(row["payload"])),
    ]
    console().print(" ".join(parts), highlight=False, soft_wrap=True)


def _flat(payload: Any) -> str:
    """A payload's own values as ``key=value``; what is nested or empty is left to --json."""
    if not isinstance(payload, dict):
        return ""
    return " ".join(
        f"{key}={value}"
        for key, value in payload.items()
        if value not in (None, "") and not isinstance(value, dict | list)
    )


def _seconds(milliseconds: int | None) -> str:
    return "" if milliseconds is None else f"{milliseconds / 1000:.1f} s"
