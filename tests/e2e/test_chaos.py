"""What the chaos proxy does to connections of the real service, and where the log says so."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from chaos_proxy import ChaosProxy, chaos_in_front_of
from service_runner import Service
from test_stock_clients import ended
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from pulsetrail.chaos.faults import KINDS
from pulsetrail.cli import run

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "cli.md"


async def opened(proxy: ChaosProxy, client: str) -> tuple[ClientConnection, str]:
    """A stock client behind the proxy, and its connection's id."""
    socket = await connect(f"ws://{proxy.listen}/ws/updates?client={client}", ping_interval=None)
    return socket, json.loads(await socket.recv())["connection"]


async def recorded(proxy: ChaosProxy, changes: int) -> None:
    """Wait until the collector has so many changes."""
    async with asyncio.timeout(20):
        while (await asyncio.to_thread(proxy.order, "status"))["recorded"] < changes:
            await asyncio.sleep(0.2)


def summary(event: dict[str, Any]) -> tuple[str, str | None]:
    return event["event_type"], event["reason"] or event["payload"].get("fault")


async def test_cause_and_effect_stand_in_one_timeline(service: Service) -> None:
    with chaos_in_front_of(service) as proxy:
        resets, resetting = await opened(proxy, "chaos-reset")
        status = await asyncio.to_thread(proxy.order, "reset")
        assert (status["accepted"], status["faults"]) == (1, [])
        assert (await ended(service, resetting))["reason"] == "peer_reset"
        finishes, finishing = await opened(proxy, "chaos-fin")
        await asyncio.to_thread(proxy.order, "fin")
        assert (await ended(service, finishing))["reason"] == "peer_vanished"
        await recorded(proxy, 2)
        history = await asyncio.to_thread(service.json, "history", resetting)
        told = [summary(event) for event in history["events"]]
        assert told.index(("chaos.applied", "reset")) < told.index(("connection.closed", "peer_reset"))
        await resets.wait_closed()
        await finishes.wait_closed()


async def test_swallowed_heartbeats_are_missed_by_the_client_and_charged_to_it_by_the_server(service: Service) -> None:
    with chaos_in_front_of(service) as proxy:
        socket, connection = await opened(proxy, "chaos-heartbeats")
        await asyncio.to_thread(proxy.order, "drop-heartbeats")
        swallowing_since = time.time() * 1000
        sent = [0]
        with contextlib.suppress(ConnectionClosed):
            async with asyncio.timeout(20):
                while True:
                    message = json.loads(await socket.recv())
                    if message["type"] == "heartbeat":
                        sent.append(message["time"])
        assert max(sent) <= swallowing_since
        assert socket.close_code == 4201, "the kernel and the browser answer, the page is never asked"
        row = await ended(service, connection)
        assert (row["reason"], row["evidence"]["layers"]) == ("idle_timeout", {"kernel": True, "ping": True})
        assert (await asyncio.to_thread(proxy.order, "status"))["heartbeats_dropped"] >= 2


async def test_a_blackhole_is_half_open_until_the_server_gives_up_and_arrives_late(service: Service) -> None:
    with chaos_in_front_of(service) as proxy:
        socket, connection = await opened(proxy, "chaos-blackhole")
        await asyncio.to_thread(proxy.order, "blackhole")
        begun = time.monotonic()
        row = await ended(service, connection)
        assert row["reason"] == "idle_timeout"
        assert row["evidence"]["layers"] == {"kernel": True, "ping": False}, "the proxy acknowledges for a client"
        assert socket.close_code is None, "the client was told nothing"
        await asyncio.to_thread(proxy.order, "lift")
        async with asyncio.timeout(10):
            await socket.wait_closed()
        assert socket.close_code == 4201
        assert time.monotonic() - begun >= 5


async def test_the_proxy_outlives_its_server_and_records_what_happened_meanwhile(service: Service) -> None:
    with chaos_in_front_of(service) as proxy:
        await asyncio.to_thread(proxy.order, "http", "503", "--for", "1s")
        await recorded(proxy, 2)
        lines = (await asyncio.to_thread(service.run, "tail", "--no-follow", "-n", "200", "--json")).stdout.splitlines()
        told = [event for event in map(json.loads, lines) if event["source"] == "chaos"]
        applied = next(event for event in told if event["payload"]["fault"] == "http")
        assert applied["payload"]["target"] == f"127.0.0.1:{service.port}"
        assert applied["payload"]["for_ms"] == 1000
        lifted = [event for event in told if summary(event) == ("chaos.lifted", "http")]
        assert len(lifted) == 1


def test_the_commands_of_the_documentation_do_what_they_say(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    block = next(
        block for block in re.findall(r"```sh\n(.+?)```", DOCUMENTATION.read_text(), re.DOTALL) if "flap" in block
    )
    lines = [line.partition("#")[0].split() for line in block.splitlines()]
    with chaos_in_front_of(service) as proxy:
        for program, *arguments in lines:
            assert program == "pulsetrail"
            assert run([*arguments, "--control", proxy.control]) == 0, arguments
            told = capsys.readouterr()
            assert arguments[1] in ("status", "lift") or told.err.startswith("Applied "), told.err
        assert proxy.order("status")["faults"] == []
    shown = {arguments[1] for _, *arguments in lines}
    assert shown >= set(KINDS), "every fault is shown"
