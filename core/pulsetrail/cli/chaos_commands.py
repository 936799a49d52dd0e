"""``pulsetrail chaos``: the proxy, and the orders that a running one takes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

import typer

from pulsetrail.chaos import faults
from pulsetrail.chaos.control import Apply, Ask, Control, Lift, Reply, give
from pulsetrail.chaos.director import Director
from pulsetrail.chaos.faults import Direction, Fault
from pulsetrail.chaos.proxy import Address, Proxy
from pulsetrail.chaos.recorder import Recorder
from pulsetrail.cli.output import Json, print_json, print_json_line, print_table, say
from pulsetrail.errors import UsageError
from pulsetrail.settings import is_loopback, load_settings

LISTEN = Address("127.0.0.1", 9000)
TARGET = Address("127.0.0.1", 8000)
CONTROL = Address("127.0.0.1", 9001)
Value = TypeVar("Value")

chaos = typer.Typer(
    help="Break connections on purpose: a TCP proxy, and orders for it.",
    epilog="First: pulsetrail chaos serve. Then use the proxy's port, and give it orders from another terminal.",
    no_args_is_help=True,
)


def _parsed(parse: Callable[[str], Value], text: str) -> Value:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.") from None


def _address(given: str | Address) -> Address:
    """Typer puts defaults through the parser too."""
    return given if isinstance(given, Address) else _parsed(Address.parse, given)


def _loopback(given: str | Address) -> Address:
    address = _address(given)
    if not is_loopback(address.host):
        raise typer.BadParameter(f"{given!r} is not on loopback, and orders are taken there only.")
    return address


def _duration(text: str) -> int:
    return _parsed(faults.parse_duration, text)


Where = Annotated[
    Address,
    typer.Option("--control", parser=_loopback, metavar="HOST:PORT", help="Where the proxy takes orders."),
]
For = Annotated[
    int | None,
    typer.Option("--for", parser=_duration, metavar="TIME", help="Lift it after 500ms, 20s, 10m; else: until lifted."),
]
Up = Annotated[bool, typer.Option("--up", help="Only from the client to the server.")]
Down = Annotated[bool, typer.Option("--down", help="Only from the server to the client.")]


@chaos.command()
def serve(
    listen: Annotated[
        Address, typer.Option(parser=_address, metavar="HOST:PORT", help="Where clients connect.")
    ] = LISTEN,
    target: Annotated[
        Address, typer.Option(parser=_address, metavar="HOST:PORT", help="The server behind it.")
    ] = TARGET,
    control: Where = CONTROL,
    collector: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The collector that records the changes.", show_default="the target"),
    ] = None,
    record: Annotated[bool, typer.Option("--record/--no-record", help="Make each change an event of the log.")] = True,
    json: Json = False,
) -> None:
    """Run the proxy: it forwards every connection to the target, until it is told otherwise.

    Each change is an event of the log (chaos.applied, chaos.lifted). Port 0 takes a free port and prints it.

    Examples:

        pulsetrail chaos serve

        pulsetrail chaos serve --listen 127.0.0.1:9000 --target 127.0.0.1:8000

        pulsetrail chaos serve --target 127.0.0.1:5432 --listen 127.0.0.1:15432 --collector http://127.0.0.1:8000
    """
    settings = load_settings()
    if not is_loopback(listen.host) and not settings.allow_insecure:
        raise UsageError(
            f"--listen is {listen}; allowed: an address on loopback, because the target takes the proxy's clients for "
            "local ones, or PULSETRAIL_ALLOW_INSECURE=true."
        )
    where = collector or f"http://{target}"
    if urlsplit(where).scheme not in ("http", "https") or not urlsplit(where).netloc:
        raise typer.BadParameter(f"{where!r} is no address of a collector such as http://127.0.0.1:8000.")
    recorder = None
    if record:
        key = settings.write_key.get_secret_value() if settings.write_key else None
        recorder = Recorder(where, key, say, same_clock=is_loopback(urlsplit(where).hostname or ""))
    asyncio.run(_serve(listen, target, control, recorder, json=json))


async def _serve(listen: Address, target: Address, control: Address, recorder: Recorder | None, *, json: bool) -> None:
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    proxy = Proxy(target)
    director = Director(proxy, recorder.record if recorder else lambda *_, **__: None)
    recording = asyncio.create_task(recorder.run()) if recorder else None
    async with proxy.listening(listen), Control(proxy, director, recorder).listening(control) as orders:
        if json:
            print_json_line({"listen": str(proxy.address), "control": str(orders.address), "target": str(target)})
        say(
            f"Forwarding {proxy.address} to {target}; orders are taken at {orders.address}"
            f"{f', changes are recorded by {recorder.collector}' if recorder else ''}.\n"
            "Next: pulsetrail chaos blackhole --for 20s, pulsetrail chaos status. Ctrl-C stops it."
        )
        await told.wait()
        director.lift()
    if recorder is not None and recording is not None:
        recording.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await recording
        await recorder.flush()
    say("Stopped.")


# --- orders -------------------------------------------------------------------------------------------------------


def _give(control: Address, order: Apply | Lift | Ask, *, json: bool) -> None:
    reply = asyncio.run(give(control, order))
    if reply.error is not None or reply.status is None:
        raise UsageError(reply.error or "The proxy did not say how it stands.")
    if json:
        print_json(reply.status)
    elif isinstance(order, Ask):
        _print_status(reply)
    else:
        say(reply.did)


def _print_status(reply: Reply) -> None:
    status = reply.status
    assert status is not None  # noqa: S101 - checked by the only caller
    say(
        f"{status.listen} to {status.target}: {status.connections} open of {status.accepted} connections, "
        f"{status.heartbeats_dropped} heartbeats swallowed; changes: {status.recorded} recorded, {status.waiting} "
        f"waiting, {status.lost} lost."
    )
    rows = (
        (entry.fault, entry.what, "until lifted" if entry.left_ms is None else f"{entry.left_ms / 1000:.1f} s")
        for entry in status.faults
    )
    print_table(("fault", "what it does", "#left"), rows, empty="No fault is in force.")


def _apply(fault: Fault, for_ms: int | None, control: Address, *, json: bool) -> None:
    _give(control, Apply(fault, for_ms), json=json)


def _way(*, up: bool, down: bool) -> Direction:
    if up == down:
        return Direction.BOTH
    return Direction.UP if up else Direction.DOWN


@chaos.command()
def refuse(for_ms: For = None, control: Where = CONTROL, json: Json = False) -> None:
    """Listen no more: new connections are refused. Open ones stay.

    Examples:

        pulsetrail chaos refuse --for 20s
    """
    _apply(faults.Refuse(), for_ms, control, json=json)


@chaos.command()
def reset(for_ms: For = None, control: Where = CONTROL, json: Json = False) -> None:
    """End every connection with a TCP reset, once; with --for, those that come in that time too.

    Examples:

        pulsetrail chaos reset

        pulsetrail chaos reset --for 20s
    """
    _apply(faults.Reset(), for_ms, control, json=json)


@chaos.command()
def fin(for_ms: For = None, control: Where = CONTROL, json: Json = False) -> None:
    """End every connection with a TCP FIN and no close frame, once; with --for, those that come in that time too.

    Examples:

        pulsetrail chaos fin
    """
    _apply(faults.Fin(), for_ms, control, json=json)


@chaos.command()
def blackhole(
    up: Up = False,
    down: Down = False,
    for_ms: For = None,
    control: Where = CONTROL,
    json: Json = False,
) -> None:
    """Forward nothing and tell nobody: both sides stay open (half-open, if one leaves).

    What was sent meanwhile arrives when it is lifted, as after a repaired link.

    Examples:

        pulsetrail chaos blackhole --for 45s

        pulsetrail chaos blackhole --down
    """
    _apply(faults.Blackhole(_way(up=up, down=down)), for_ms, control, json=json)


@chaos.command()
def latency(
    milliseconds: Annotated[str, typer.Argument(metavar="MS[±MS]", help="Delay and jitter: 800, 800±300, 800+-300.")],
    up: Up = False,
    down: Down = False,
    for_ms: For = None,
    control: Where = CONTROL,
    json: Json = False,
) -> None:
    """Deliver late, in order, in each direction.

    Examples:

        pulsetrail chaos latency 800±300 --for 1m

        pulsetrail chaos latency 800+-300 --down
    """
    delay, jitter = _parsed(faults.parse_latency, milliseconds)
    _apply(faults.Latency(delay, jitter, _way(up=up, down=down)), for_ms, control, json=json)


@chaos.command()
def bandwidth(
    rate: Annotated[str, typer.Argument(metavar="BYTES/S", help="Bytes a second of a connection: 2000, 50k, 1MB/s.")],
    up: Up = False,
    down: Down = False,
    for_ms: For = None,
    control: Where = CONTROL,
    json: Json = False,
) -> None:
    """Let so many bytes a second through, for each connection and direction.

    Examples:

        pulsetrail chaos bandwidth 2000 --for 1m

        pulsetrail chaos bandwidth 50kB/s --down
    """
    value = _parsed(faults.parse_rate, rate)
    _apply(faults.Bandwidth(value, _way(up=up, down=down)), for_ms, control, json=json)


@chaos.command()
def drop_heartbeats(for_ms: For = None, control: Where = CONTROL, json: Json = False) -> None:
    """Swallow the server's heartbeats and let everything else pass.

    Examples:

        pulsetrail chaos drop-heartbeats --for 2m
    """
    _apply(faults.DropHeartbeats(), for_ms, control, json=json)


@chaos.command()
def http(
    status: Annotated[int, typer.Argument(min=400, max=599, help="The status to answer with.")] = 503,
    upgrades_only: Annotated[
        bool, typer.Option("--upgrades-only", help="Only to WebSocket handshakes; other requests pass.")
    ] = False,
    for_ms: For = None,
    control: Where = CONTROL,
    json: Json = False,
) -> None:
    """Answer new requests with a status instead of the server. Open WebSockets stay.

    Examples:

        pulsetrail chaos http 503 --for 30s

        pulsetrail chaos http 502 --upgrades-only
    """
    _apply(faults.Http(status, upgrades_only), for_ms, control, json=json)


@chaos.command()
def flap(
    times: Annotated[str, typer.Argument(metavar="DOWN/UP", help="How long down and how long up: 10s/20s.")],
    for_ms: For = None,
    control: Where = CONTROL,
    json: Json = False,
) -> None:
    """Let the link go down (reset, then refused) and come back, again and again.

    Examples:

        pulsetrail chaos flap 10s/20s --for 5m
    """
    _apply(faults.Flap(*_parsed(faults.parse_flap, times)), for_ms, control, json=json)


@chaos.command()
def monkey(
    seed: Annotated[int, typer.Option(min=0, max=(1 << 53) - 1, help="The same seed draws the same faults.")] = 1,
    for_ms: For = None,
    control: Where = CONTROL,
    json: Json = False,
) -> None:
    """Draw one fault after another, each for a few seconds, with peace in between.

    Examples:

        pulsetrail chaos monkey --seed 7 --for 10m
    """
    _apply(faults.Monkey(seed), for_ms, control, json=json)


@chaos.command()
def lift(
    fault: Annotated[str | None, typer.Argument(help="Which one; all, if it is left out.")] = None,
    control: Where = CONTROL,
    json: Json = False,
) -> None:
    """End a fault, or all of them.

    Examples:

        pulsetrail chaos lift

        pulsetrail chaos lift blackhole
    """
    _give(control, Lift(fault), json=json)


@chaos.command()
def status(control: Where = CONTROL, json: Json = False) -> None:
    """Show how the proxy stands: connections, faults in force, changes recorded.

    Examples:

        pulsetrail chaos status

        pulsetrail chaos status --json | jq .faults
    """
    _give(control, Ask(), json=json)
