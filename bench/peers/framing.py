"""Messages as the benchmarks count them: JSON of a given size that holds the microsecond of its making."""

from __future__ import annotations

import time


def message(size: int) -> str:
    """``{"at":MICROSECOND,"fill":"xxx"}`` of ``size`` bytes; the clock is CLOCK_MONOTONIC, as the load generator's."""
    head = f'{{"at":{time.monotonic_ns() // 1000},"fill":"'
    return f'{head}{"x" * (size - len(head) - 2)}"}}'


def frame(text: str) -> bytes:
    """A server's text frame (RFC 6455, section 5.2) of 126 bytes to 64 KiB."""
    data = text.encode()
    return b"\x81\x7e" + len(data).to_bytes(2, "big") + data
