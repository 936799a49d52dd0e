"""Every change becomes an event of the log: posted to the collector, with the time at which it happened.

A collector that is away, which is the point of some faults, gets them later; one that does not want them is named once.
"""

from __future__ import annotations

import asyncio
import http.client
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from pulsetrail import __version__
from pulsetrail.events import CHAOS_CLIENT
from pulsetrail.identity import new_id

TIMEOUT_SECONDS: Final = 5.0
AGAIN_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
MAX_WAITING: Final = 1000
BATCH: Final = 100
FLUSH_SECONDS: Final = 2.0


class Recorder:
    """The way to the collector. ``say`` gets one sentence when something is wrong with it."""

    def __init__(
        self, collector: str, write_key: str | None, say: Callable[[str], None], *, same_clock: bool = False
    ) -> None:
        """``collector`` is its address, such as ``http://127.0.0.1:8000``; with the ``same_clock`` if on this host."""
        self.page_id = new_id().hex
        """What tells this proxy's events from those of others."""
        self.recorded = 0
        self.lost = 0
        """Events that the collector refused, or that waited too long."""
        self._url = f"{collector.rstrip('/')}/v1/telemetry"
        self.collector = collector
        self._headers = {"Content-Type": "application/json"}
        if write_key is not None:
            self._headers["X-Pulsetrail-Key"] = write_key
        self._same_clock = same_clock
        self._say = say
        self._complained = False
        self._seq = 0
        self._waiting: deque[dict[str, Any]] = deque()
        self._some = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Events that the collector does not have yet."""
        return len(self._waiting)

    def record(self, event_type: str, **fields: Any) -> None:
        """Take down what happens now; ``None`` fields are left out."""
        told = {name: value for name, value in fields.items() if value is not None}
        times = {"wall": time.time() * 1000, "mono": time.monotonic() * 1000}
        self._waiting.append({"type": event_type, "seq": self._seq, **times, **told})
        self._seq += 1
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.lost += 1
        self._some.set()

    async def run(self) -> None:
        """Post what is recorded, for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                pause = await self._post()
                if pause is not None:
                    await asyncio.sleep(pause)

    async def flush(self) -> None:
        """Try once more, briefly, and say what could not be told; ``run`` must not be running any more."""
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                while self._waiting and await self._post() is None:
                    pass
        except TimeoutError:
            pass
        if self._waiting:
            count = len(self._waiting)
            self._say(f"{count} change{'' if count == 1 else 's'} did not reach the collector at {self.collector}.")

    async def _post(self) -> float | None:
        """Send the oldest; the pause before the next try in seconds, ``None`` when it went well or is given up."""
        events = list(self._waiting)[:BATCH]
        body = {
            "client_id": CHAOS_CLIENT,
            "page_id": self.page_id,
            "sdk": f"chaos/{__version__}",
            "sent_wall": time.time() * 1000,
            "events": events,
        }
        if self._same_clock:  # otherwise the collector takes the time on the way for a difference of the clocks
            body["clock"] = {"offset_ms": 0, "error_ms": 0, "samples": 1}
        status, retry_after, answer = await asyncio.to_thread(
            _request, self._url, msgspec.json.encode(body), self._headers
        )
        if status in (0, 429) or status >= 500:
            return min(retry_after or AGAIN_SECONDS, LONGEST_PAUSE_SECONDS)
        for _ in events:
            self._waiting.popleft()
        if status == 202:
            rejected = len(msgspec.json.decode(answer).get("rejected", ()))
            self.recorded += len(events) - rejected
            self.lost += rejected
        else:
            rejected = len(events)
            self.lost += rejected
        if rejected and not self._complained:
            self._complained = True
            self._say(
                f"The collector at {self.collector} does not take the proxy's events (it answered {status}): name "
                "another with --collector, check PULSETRAIL_WRITE_KEY, or use --no-record."
            )
        return None


def _request(url: str, body: bytes, headers: dict[str, str]) -> tuple[int, float | None, bytes]:
    """Status, ``Retry-After`` in seconds and body of a POST; status 0 when nobody answered."""
    request = urllib.request.Request(url, body, headers)  # noqa: S310 - the command checks the scheme
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as reply:  # noqa: S310 - likewise
            return reply.status, None, reply.read(1 << 20)
    except urllib.error.HTTPError as error:
        with error:
            after = error.headers.get("Retry-After", "")
            return error.code, float(after) if after.isdecimal() else None, b""
    except (OSError, http.client.HTTPException):
        return 0, None, b""
