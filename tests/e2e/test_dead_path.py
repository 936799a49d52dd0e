"""A link that goes down: the one fault that needs a network to be shown.

Service and client are hosts of their own, in network namespaces with a veth pair between them; nothing leaves them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from service_runner import STOCK_CLIENT, Service, StockClient
from test_stock_clients import ended

SERVER_ADDRESS, CLIENT_ADDRESS = "198.18.0.1", "198.18.0.2"
"""From the range for tests of network devices (RFC 2544)."""

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces take root and iproute2"
)


class Hosts(NamedTuple):
    """The names of two namespaces, and of the client's end of the cable between them."""

    server: str
    client: str
    cable: str


def ip(*arguments: str, check: bool = True) -> None:
    subprocess.run(["ip", *arguments], check=check, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    mark = uuid.uuid4().hex[:6]
    made = Hosts(f"pt-server-{mark}", f"pt-client-{mark}", f"ptc{mark}")
    try:
        for name in (made.server, made.client):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", f"pts{mark}", "netns", made.server, "type", "veth", "peer", made.cable, "netns", made.client)
        for name, device, address in (
            (made.server, f"pts{mark}", SERVER_ADDRESS),
            (made.client, made.cable, CLIENT_ADDRESS),
        ):
            ip("-n", name, "address", "add", f"{address}/30", "dev", device)
            ip("-n", name, "link", "set", device, "up")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.decode().strip()}")
    try:
        yield made
    finally:
        ip("netns", "delete", made.server, check=False)
        ip("netns", "delete", made.client, check=False)


async def test_a_link_that_goes_down_ends_with_unacknowledged_data_in_evidence(tmp_path: Path, hosts: Hosts) -> None:
    service = Service(
        tmp_path / "data",
        prefix=("ip", "netns", "exec", hosts.server),
        PULSETRAIL_HOST=SERVER_ADDRESS,
        PULSETRAIL_ALLOW_INSECURE="true",
        PULSETRAIL_HEARTBEAT_INTERVAL="2",
        PULSETRAIL_IDLE_TIMEOUT="60",
    )
    service.data_dir.mkdir()
    service.start()
    client = await StockClient.start(
        "ip", "netns", "exec", hosts.client, sys.executable, "-c", STOCK_CLIENT, service.ws
    )
    try:
        welcome = await client.receive("welcome")
        await client.receive("heartbeat")
        ip("-n", hosts.client, "link", "set", hosts.cable, "down")
        row = await ended(service, welcome["connection"], patience=60)
        assert row["reason"] in ("server_heartbeat_timeout", "path_timeout")
        assert row["evidence"]["tcp"]["unacked"] > 0
        assert row["evidence"]["tcp"]["backoff"] >= 2
        assert row["evidence"]["layers"] == {"kernel": False, "ping": False}
    finally:
        await client.kill()
        service.kill_everything()
