"""The long run: ten thousand connections that churn and talk, for half an hour, with one restart of Postgres in it.

Is everything flat after the first ten minutes? Each process is looked at every few seconds; a straight line through the
last two thirds says how much it rose, and the bound beside it how much it may. At the end the checker judges by the
clients' records that nothing was lost or doubled.

    make long-run
    make long-run ARGS="--minutes 2 --connections 1000"
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

sys.path += [str(Path(__file__).parents[1] / "e2e"), str(Path(__file__).parents[2])]

import msgspec
from examination import Examiner
from fleet import OPEN_HOUSE, PATIENT, Fleet
from long_run_figures import Sample, Trend, cpu_shares, rows_of, trends
from long_run_pages import RunReport, page, picture
from long_run_samples import Sampler
from postgres_faults import end
from records import Record
from service_runner import Service

from bench.machine import this_machine

SETTINGS: Final = {
    **OPEN_HOUSE,
    # What the tests make faster is as it is by default.
    "PULSETRAIL_HEARTBEAT_INTERVAL": "30",
    "PULSETRAIL_IDLE_TIMEOUT": "600",
    "PULSETRAIL_SEND_BUFFER_BYTES": str(1 << 20),
    "PULSETRAIL_NODE_LEASE": "15",
    "PULSETRAIL_DRAIN_SECONDS": "5",
    # Once a second to ten thousand clients would be a test of the load generator.
    "PULSETRAIL_LIVE_FIGURES_INTERVAL": "10",
}
SAMPLE_SECONDS: Final = 5.0
SAY_SECONDS: Final = 10.0
CONNECTS_A_SECOND: Final = 200.0
TELEMETRY_SECONDS: Final = 100.0
"""Between two events of a page beside those that its connections cause."""
RESTART_AT: Final = 0.5
"""Of the run."""


@dataclass(frozen=True)
class Plan:
    """What is asked for."""

    minutes: float
    connections: int
    workers: int
    churn: float
    """Share of the clients that leave and come back, a minute."""

    @property
    def seconds(self) -> float:
        return self.minutes * 60


class Run:
    """One run under way."""

    def __init__(self, plan: Plan, service: Service, fleet: Fleet) -> None:
        self.samples: list[Sample] = []
        self._plan = plan
        self._service = service
        self._fleet = fleet
        self._began = time.monotonic()
        self._welcomes = fleet.welcomes

    async def watch(self) -> None:
        """Take samples and say how it goes until the time is over; Postgres is restarted half-way."""
        sampler = Sampler(self._service)
        restart_at, say_at = self._plan.seconds * RESTART_AT, 0.0
        try:
            while (now := time.monotonic() - self._began) < self._plan.seconds:
                if now >= restart_at:
                    end(self._service.postgres_pid())
                    say(f"{clock(now)}  Postgres is told to end; the service starts it again")
                    restart_at = self._plan.seconds
                newest = await sampler.take(now)
                self.samples += newest
                if now >= say_at:
                    say_at += SAY_SECONDS
                    self._say(now, newest)
                await asyncio.sleep(SAMPLE_SECONDS - (time.monotonic() - self._began - now))
        finally:
            await sampler.close()

    def _say(self, now: float, newest: Sequence[Sample]) -> None:
        rate = (self._fleet.welcomes - self._welcomes) / now if now else 0.0
        parts = [
            f"{sample.process} {sample.memory_bytes / 2**20:,.0f} MiB {sample.descriptors:,}"
            + (f" {sample.tasks:.0f}t" if sample.tasks is not None else "")
            for sample in newest
        ]
        waiting = sum(sample.journal_rows or 0 for sample in newest)
        kept = sum(sample.journal_bytes or 0 for sample in newest) / 2**20
        say(
            f"{clock(now)} of {clock(self._plan.seconds)}  {self._fleet.open_connections:,} open, "
            f"{rate:.1f} handshakes/s | journal {kept:,.1f} MiB, {waiting:,.0f} wait | {', '.join(parts)}"
        )


async def run(plan: Plan, directory: Path) -> RunReport:
    """Do all of it; what came of it."""
    service = Service(directory / "data", "--workers", str(plan.workers), prefix=(), **SETTINGS)
    service.data_dir.mkdir(parents=True)
    say(f"Starting pulsetrail serve with {plan.workers} workers...")
    started_at = datetime.now(UTC)
    await asyncio.to_thread(service.start)
    try:
        record = directory / "clients.jsonl"
        examiner = Examiner(service.database_url, [record])
        habits = replace(PATIENT, telemetry_interval=TELEMETRY_SECONDS)
        with Record(record) as opened:
            async with Fleet(opened, service.port, plan.connections, habits=habits) as fleet:
                say(f"Connecting {plan.connections:,} clients...")
                await fleet.connect(per_second=CONNECTS_A_SECOND, patience=120)
                under_way = Run(plan, service, fleet)
                churning = fleet.churn(plan.churn)
                await under_way.watch()
                churning.cancel()
                say("Waiting until everybody is back and everything is in the log...")
                await fleet.until_all_open(90)
                async with fleet.quiet(60):
                    findings = await examiner.settle(60)
                drops, welcomes = fleet.drops, fleet.welcomes
        say("Examining everything...")
        findings += await examiner.examine_all(120)
        return RunReport(
            started_at=started_at.isoformat(timespec="seconds"),
            minutes=plan.minutes,
            connections=plan.connections,
            workers=plan.workers,
            churn=plan.churn,
            machine=this_machine({}),
            handshakes=welcomes,
            events=examiner.events,
            acknowledged=sum(map(len, examiner.clients.acknowledged.values())),
            drops=drops,
            refusals={str(code): count for code, count in examiner.clients.refusals.items()},
            findings=[str(finding) for finding in dict.fromkeys(findings)],
            trends=trends(under_way.samples, plan.seconds),
            cpu=cpu_shares(under_way.samples, 0.0),
            samples=under_way.samples,
        )
    finally:
        await asyncio.to_thread(service.kill_everything)


def main() -> int:
    """0 when everything is flat and nothing is wrong."""
    parser = argparse.ArgumentParser(
        prog="make long-run", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--churn", type=float, default=0.2, help="share of the clients that leave a minute")
    parser.add_argument("--out", type=Path, default=Path("build/long-run"), help="folder for the results")
    given = parser.parse_args()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    if given.connections * 1.2 > most_files:
        parser.error(f"{given.connections} connections take more than the {most_files} files that a process may open")
    plan = Plan(given.minutes, given.connections, given.workers, given.churn)
    with tempfile.TemporaryDirectory(prefix="pulsetrail-long-run-") as directory:
        Path(directory).chmod(0o755)  # the embedded Postgres of root is somebody else
        report = asyncio.run(run(plan, Path(directory)))
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "long-run.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))
    picture(report, given.out / "long-run.svg")
    (given.out / "long-run.md").write_text(page(report))
    print_result(report.trends, report)
    say(f"Written: {given.out}/long-run.md, .svg and .json")
    return 0 if report.is_sound else 1


def print_result(found: Sequence[Trend], report: RunReport) -> None:
    """The table, and what is wrong."""
    for row in rows_of(found):
        say("  ".join(cell.ljust(width) for cell, width in zip(row, (10, 24, 10, 10, 9, 7, 10), strict=True)))
    say(f"CPU, in cores: {', '.join(f'{process} {cores:.2f}' for process, cores in report.cpu.items())}")
    say(f"{report.handshakes:,} handshakes, {report.events:,} events in the log, {report.drops} connections dropped")
    for finding in report.findings[:20]:
        say(f"WRONG  {finding}")
    say("Everything is flat and nothing is wrong." if report.is_sound else "It did not hold.")


def clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
