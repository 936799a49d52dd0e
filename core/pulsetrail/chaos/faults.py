"""What there is to break, and how people write it down. Pure: no I/O, no clock."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

SHORTEST_MS: Final = 1
LONGEST_MS: Final = 24 * 3600 * 1000
DurationMs = Annotated[int, Meta(ge=SHORTEST_MS, le=LONGEST_MS)]
DelayMs = Annotated[int, Meta(ge=0, le=600_000)]


class Direction(StrEnum):
    """Which way the bytes go that a fault concerns."""

    UP = "up"
    """From the client to the server."""
    DOWN = "down"
    """From the server to the client."""
    BOTH = "both"


class Refuse(Struct, frozen=True, tag_field="fault", tag="refuse"):
    """Nobody listens: new connections are refused by the kernel. Those that are open stay."""

    def __str__(self) -> str:
        return "refuse new connections"


class Reset(Struct, frozen=True, tag_field="fault", tag="reset"):
    """Every connection ends with a TCP reset; for as long as it lasts, new ones too."""

    def __str__(self) -> str:
        return "reset every connection"


class Fin(Struct, frozen=True, tag_field="fault", tag="fin"):
    """Every connection ends with a TCP FIN and no close frame; for as long as it lasts, new ones too."""

    def __str__(self) -> str:
        return "end every connection with a FIN"


class Blackhole(Struct, frozen=True, tag_field="fault", tag="blackhole"):
    """Nothing arrives any more and nobody is told: both sides stay open. What was sent arrives when it is lifted."""

    direction: Direction = Direction.BOTH

    def __str__(self) -> str:
        return f"forward nothing{_ways(self.direction)}"


class Latency(Struct, frozen=True, tag_field="fault", tag="latency"):
    """Bytes arrive later, in order, by ``delay_ms`` ± ``jitter_ms`` in each direction."""

    delay_ms: DelayMs
    jitter_ms: DelayMs = 0
    direction: Direction = Direction.BOTH

    def __str__(self) -> str:
        spread = f"±{self.jitter_ms}" if self.jitter_ms else ""
        return f"deliver {self.delay_ms}{spread} ms late{_ways(self.direction)}"


class Bandwidth(Struct, frozen=True, tag_field="fault", tag="bandwidth"):
    """Each connection gets so many bytes a second in each direction."""

    bytes_per_second: Annotated[int, Meta(ge=1, le=10**12)]
    direction: Direction = Direction.BOTH

    def __str__(self) -> str:
        return f"let {self.bytes_per_second} bytes a second through{_ways(self.direction)}"


class DropHeartbeats(Struct, frozen=True, tag_field="fault", tag="drop-heartbeats"):
    """The server's heartbeats vanish, everything else arrives: a server whose beat has stopped."""

    def __str__(self) -> str:
        return "swallow the server's heartbeats"


class Http(Struct, frozen=True, tag_field="fault", tag="http"):
    """New requests get this status instead of the server's answer; WebSockets that are open stay."""

    status: Annotated[int, Meta(ge=400, le=599)] = 503
    upgrades_only: bool = False
    """Only handshakes of WebSockets; other requests reach the server, as through a proxy that knows no WebSockets."""

    def __str__(self) -> str:
        return f"answer {self.status} to new {'WebSockets' if self.upgrades_only else 'requests'}"


class Flap(Struct, frozen=True, tag_field="fault", tag="flap"):
    """The link goes down (reset, then refused) and comes back, again and again; it begins with going down."""

    down_ms: DurationMs
    up_ms: DurationMs

    def __str__(self) -> str:
        return f"be down {self.down_ms / 1000:g} s and up {self.up_ms / 1000:g} s in turn"


class Monkey(Struct, frozen=True, tag_field="fault", tag="monkey"):
    """One fault after another; the seed decides which."""

    seed: Annotated[int, Meta(ge=0, le=(1 << 53) - 1)]

    def __str__(self) -> str:
        return f"draw faults with seed {self.seed}"


Fault = Refuse | Reset | Fin | Blackhole | Latency | Bandwidth | DropHeartbeats | Http | Flap | Monkey


def kind_of(fault: Fault) -> str:
    """The fault's name, as the command line and the log have it."""
    return str(fault.__struct_config__.tag)


KINDS: Final = tuple(
    str(kind.__struct_config__.tag)
    for kind in (Refuse, Reset, Fin, Blackhole, Latency, Bandwidth, DropHeartbeats, Http, Flap, Monkey)
)


def direction_of(fault: Fault) -> Direction | None:
    """Which way it works, where that can be chosen."""
    return fault.direction if isinstance(fault, Blackhole | Latency | Bandwidth) else None


def _ways(direction: Direction) -> str:
    return {
        Direction.BOTH: "",
        Direction.UP: " from the client to the server",
        Direction.DOWN: " from the server to the client",
    }[direction]


# --- how people write it ------------------------------------------------------------------------------------------

_UNITS_MS: Final = {"ms": 1, "s": 1000, "": 1000, "m": 60_000, "h": 3_600_000}
_RATE_UNITS: Final = {"": 1, "b": 1, "k": 1000, "kb": 1000, "kib": 1024, "m": 10**6, "mb": 10**6, "mib": 1 << 20}


def parse_duration(text: str) -> int:
    """Milliseconds of ``500ms``, ``20s``, ``1.5m``, ``1h``, ``1m30s``, or plain seconds.

    Raises:
        ValueError: it is none, or not between a millisecond and a day; the message says what is allowed.
    """
    number = r"\d{1,9}(?:\.\d{1,9})?"
    written = re.fullmatch(rf"{number}|(?:{number}(?:ms|s|m|h))+", text, re.ASCII) is not None
    parts = re.findall(rf"({number})(ms|s|m|h|$)", text, re.ASCII) if written else ()
    total = round(sum(float(amount) * _UNITS_MS[unit] for amount, unit in parts))
    if not SHORTEST_MS <= total <= LONGEST_MS:
        raise ValueError(f"{text!r} is no duration such as 500ms, 20s, 10m or 1m30s, up to 24h")
    return total


def parse_latency(text: str) -> tuple[int, int]:
    """Delay and jitter in milliseconds of ``800``, ``800±300`` or ``800+-300``, with or without ``ms``.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"(\d{1,6})(?:ms)?(?:(?:±|\+-|\+/-)(\d{1,6}))?(?:ms)?", text, re.ASCII)
    delay, jitter = (int(found[1]), int(found[2] or 0)) if found else (0, 1)
    if jitter > delay or delay > 600_000:
        raise ValueError(f"{text!r} is no latency in milliseconds such as 800 or 800±300 (800+-300), up to 600000")
    return delay, jitter


def parse_rate(text: str) -> int:
    """Bytes a second of ``2000``, ``50k``, ``50kB/s``, ``1MiB``.

    Raises:
        ValueError: it is none, or less than a byte a second.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s?([kKmM]?i?[bB]?)(?:/s)?", text, re.ASCII)
    rate = int(float(found[1]) * _RATE_UNITS.get(found[2].lower(), 0)) if found else 0
    if rate < 1:
        raise ValueError(f"{text!r} is no rate in bytes a second such as 2000, 50k or 1MB/s")
    return rate


def parse_flap(text: str) -> tuple[int, int]:
    """How long down and how long up, in milliseconds, of ``10s/20s``.

    Raises:
        ValueError: it is none.
    """
    down, slash, up = text.partition("/")
    try:
        if slash:
            return parse_duration(down), parse_duration(up)
    except ValueError:
        pass
    raise ValueError(f"{text!r} is no pair of durations, down and up, such as 10s/20s")


# --- the monkey ---------------------------------------------------------------------------------------------------


class Draw(NamedTuple):
    """One turn of the monkey."""

    fault: Fault
    for_ms: int | None
    """``None``: it happens once."""
    pause_ms: int
    """Peace afterwards."""


def draws(seed: int) -> Iterator[Draw]:
    """The monkey's turns, the same for the same seed; without end."""
    rng = random.Random(seed)  # noqa: S311 - a seed is there to be repeated
    while True:
        fault, lasts = _draw(rng)
        yield Draw(fault, rng.randrange(2_000, 20_000) if lasts else None, rng.randrange(3_000, 15_000))


def _draw(rng: random.Random) -> tuple[Fault, bool]:
    match rng.choice(KINDS[:-1]):
        case "refuse":
            return Refuse(), True
        case "reset":
            return Reset(), rng.random() < 0.25
        case "fin":
            return Fin(), rng.random() < 0.25
        case "blackhole":
            return Blackhole(rng.choice(list(Direction))), True
        case "latency":
            delay = rng.randrange(50, 3_000)
            return Latency(delay, rng.randrange(delay), rng.choice(list(Direction))), True
        case "bandwidth":
            return Bandwidth(rng.randrange(500, 50_000), rng.choice(list(Direction))), True
        case "drop-heartbeats":
            return DropHeartbeats(), True
        case "http":
            return Http(rng.choice((429, 500, 502, 503, 504))), True
        case _:
            return Flap(rng.randrange(1_000, 5_000), rng.randrange(1_000, 5_000)), True
