"""Starting the servers of a workload."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib.metadata import version

from bench.generator import Clients
from bench.servers import Nchan, PlainFastApi, Pulsetrail, RawC, RawPython, Server, Ws
from bench.stage import BenchError, Stage


async def started(
    stage: Stage,
    stack: AsyncExitStack,
    *,
    shared: Mapping[str, str] | None = None,
    heartbeat: float = 30.0,
    **settings: str,
) -> dict[str, Server]:
    """The workload's contestants by name, running until the stack unwinds; one that cannot be started here is left out,
    and the run says so. ``shared`` says which contestants are another's server used in another way; ``heartbeat``
    is the time in seconds between two heartbeats, ``settings`` are Pulsetrail's, where they differ from the usual ones.
    """
    servers: dict[str, Server] = {}
    wanted = dict.fromkeys((shared or {}).get(name, name) for name in stage.contestants)
    for name in wanted:
        server = contestant(stage, name, heartbeat, **settings)
        stage.say(f"starting {name}")
        stack.push_async_callback(server.stop)
        try:
            await server.start()
        except BenchError as error:
            stage.miss(name, str(error))
            continue
        servers[name] = server
    told_versions(stage, servers)
    return servers


async def connected(stage: Stage, stack: AsyncExitStack, server: Server, count: int) -> Clients:
    """Clients of a server, all of them open.

    Raises:
        BenchError: some could not connect.
    """
    clients = await Clients.start(count, stage.say)
    stack.push_async_callback(clients.stop)
    await clients.open_all(server.address, count, welcome=server.welcomes)
    await stage.rest(server.settle)
    return clients


def contestant(stage: Stage, name: str, heartbeat: float = 30.0, **settings: str) -> Server:
    """A server that is not running yet, with a folder of its own."""
    scratch = stage.scratch / name
    scratch.mkdir(exist_ok=True)
    scratch.chmod(0o755)
    if name.startswith("pulsetrail"):
        return Pulsetrail(scratch, heartbeat, **settings)
    if name == PlainFastApi.name:
        return PlainFastApi(scratch, heartbeat)
    kinds: dict[str, type[Server]] = {kind.name: kind for kind in (Nchan, RawC, RawPython, Ws)}
    return kinds[name](scratch)


def told_versions(stage: Stage, servers: dict[str, Server]) -> None:
    """Put what competes on the run's list of versions."""
    for package in ("pulsetrail", "fastapi", "uvicorn", "uvloop", "websockets"):
        stage.version(package, version(package))
    for server in servers.values():
        if isinstance(server, Ws | Nchan):
            for name, text in server.versions().items():
                stage.version(name, text)
