"""Judges a running service by its clients' records, again and again until nothing is wrong or it has had its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import asyncpg
import httpx
from checker import ClientAccount, Finding, judge, summary
from records import RecordReader
from sqlalchemy import MetaData
from stored_log import LogReader, double_events

from pulsetrail.projections import PROJECTIONS
from pulsetrail.projections.builds import builds, cancel, rebuild
from pulsetrail.verify import verify

LOOK_SECONDS: Final = 0.25
STILL_SECONDS: Final = 12.0
"""When nothing was appended for so long, and nothing found or mended, nothing will be: a worker is back sooner."""
DIFFERING_ROWS: Final = """
    SELECT count(*) FROM (
        (SELECT to_jsonb(l) FROM {live} l EXCEPT ALL SELECT to_jsonb(r) FROM {rebuilt} r)
        UNION ALL
        (SELECT to_jsonb(r) FROM {rebuilt} r EXCEPT ALL SELECT to_jsonb(l) FROM {live} l)
    ) AS difference
"""
_AWAY: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)


class Examiner:
    """Knows what the clients and the log have said so far; what it reads, it reads once."""

    def __init__(self, database_url: str, records: Iterable[Path], *, one_lane: bool = False) -> None:
        """``one_lane``: all telemetry goes through one process; see ``checker.judge``."""
        self.clients = ClientAccount()
        self._url = database_url
        self._records = RecordReader(records)
        self._log = LogReader()
        self._one_lane = one_lane

    @property
    def connections(self) -> int:
        """Connections in the log, as of the last look."""
        return len(self._log.account.lives)

    @property
    def events(self) -> int:
        """Events in the log, as of the last look."""
        return sum(self._log.account.heads.values())

    async def look(self) -> list[Finding]:
        """What is wrong now. The log is read before the records, as the checker wants it."""
        connection = await asyncpg.connect(self._url, timeout=5)
        try:
            log = await self._log.read(connection)
        finally:
            await connection.close(timeout=5)
        self.clients.add(self._records.read())
        return judge(self.clients, log, one_lane=self._one_lane)

    async def settle(self, patience: float) -> list[Finding]:
        """What is still wrong after ``patience`` seconds; returns as soon as nothing is, and when nothing has moved for
        ``STILL_SECONDS``. The database may be away for a part of that time."""
        until = time.monotonic() + patience
        before: tuple[list[Finding], int] | None = None
        still_since = 0.0
        while True:
            try:
                findings = await self.look()
            except _AWAY as error:
                findings = [Finding("log verify", "the database", f"it does not answer: {error!r}")]
            now = time.monotonic()
            if before != (findings, self.events):
                before, still_since = (findings, self.events), now
            if not findings or now >= min(until, still_since + STILL_SECONDS):
                return findings
            await asyncio.sleep(LOOK_SECONDS)

    async def examine_all(self, patience: float, *, rebuilt: Sequence[str] = tuple(PROJECTIONS)) -> list[Finding]:
        """Everything, at a time when nothing is appended: what ``settle`` finds, with the log read again from its
        beginning, doubles, the product's own check, and each of the projections in ``rebuilt`` against a new build."""
        self._log = LogReader()
        findings = await self.settle(patience)
        connection = await asyncpg.connect(self._url, timeout=5)
        try:
            findings += await double_events(connection)
            report = await verify(connection, grace_seconds=0.0)
            findings += [Finding("log verify", finding.kind, str(finding)) for finding in report.findings]
            findings += [Finding("log verify", "not looked at", note) for note in report.notes]
            for name in rebuilt:
                findings += await differences(connection, name, patience)
        finally:
            await connection.close(timeout=5)
        return findings


async def differences(connection: asyncpg.Connection, name: str, patience: float) -> list[Finding]:
    """Let the running projector fold a projection anew, and compare it with the live one; the new one is given up."""
    projection = PROJECTIONS[name]
    new = await rebuild(connection, name)
    try:
        until = time.monotonic() + patience
        while True:
            state = {build.build: build for build in await builds(connection) if build.projection == name}
            behind = {build: one.lag_events for build, one in state.items()}
            if not any(behind.values()):
                break
            if time.monotonic() >= until:
                return [Finding("projection", name, f"events that are not folded, by build: {behind}")]
            await asyncio.sleep(LOOK_SECONDS)
        (live,) = (build for build, one in state.items() if one.status == "live")
        findings = [
            Finding("projection", name, f"build {build} is degraded") for build, one in state.items() if one.degraded
        ]
        for old_table, new_table in zip(
            projection.define(MetaData(), live), projection.define(MetaData(), new), strict=True
        ):
            statement = DIFFERING_ROWS.format(live=old_table.name, rebuilt=new_table.name)
            if count := await connection.fetchval(statement):
                findings.append(Finding("projection", name, f"{count} rows of {old_table.name} differ"))
        return findings
    finally:
        await cancel(connection, name)


async def gauge_findings(http: str, metric: str, expected: float, patience: float) -> list[Finding]:
    """What a metric's samples (on ``/metrics`` under the address ``http``) add up to, unless it is ``expected`` in
    time. The snapshot behind it is up to a second old."""
    until = time.monotonic() + patience
    async with httpx.AsyncClient() as client:
        while True:
            try:
                shown = sum_of_samples((await client.get(f"{http}/metrics", timeout=5)).text, metric)
            except httpx.HTTPError as error:
                shown, detail = None, f"/metrics does not answer: {error!r}"
            else:
                detail = f"it shows {shown}, there are {expected:g}"
            if shown == expected:
                return []
            if time.monotonic() >= until:
                return [Finding("gauge", metric, detail)]
            await asyncio.sleep(LOOK_SECONDS)


def sum_of_samples(text: str, metric: str) -> float | None:
    """The sum of a metric's samples in Prometheus's text format; ``None`` if there is none."""
    lines = [line for line in text.splitlines() if line.startswith((f"{metric}{{", f"{metric} "))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines) if lines else None


def assert_nothing_is_wrong(findings: Sequence[Finding], occasion: str = "") -> None:
    """Fail a test with everything that was found, and on what occasion."""
    if findings:
        raise AssertionError(f"{len(findings)} findings{occasion and f' ({occasion})'}:\n{summary(findings)}")
