"""Programs that the benchmarks need and the machine may lack: the load generator, nginx with nchan, npm ``ws``.

Root gets Debian's packages installed; anybody else is told what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from bench.stage import BUILD, BenchError

LOAD: Final = Path(__file__).parent / "load"
PEERS: Final = Path(__file__).parent / "peers"
NGINX: Final = Path("/usr/sbin/nginx")
NCHAN_MODULE: Final = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
_POLICY: Final = Path("/usr/sbin/policy-rc.d")


def program(name: str, say: Callable[[str], None]) -> Path:
    """The path of ``load/NAME.c`` compiled, which it is at the first use and after a change.

    Raises:
        BenchError: there is no C compiler, or it does not take the source.
    """
    made = BUILD / name
    sources = [LOAD / f"{name}.c", LOAD / "measure.h"]
    if made.exists() and made.stat().st_mtime > max(source.stat().st_mtime for source in sources):
        return made
    if shutil.which("cc") is None:
        debian_packages(["gcc", "libc6-dev"], say)
    BUILD.mkdir(parents=True, exist_ok=True)
    fresh = made.with_suffix(f".{os.getpid()}")
    _run(["cc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-o", str(fresh), str(sources[0])], f"compile {name}.c")
    fresh.replace(made)
    return made


def debian_packages(packages: Sequence[str], say: Callable[[str], None]) -> None:
    """Install packages of Debian's; a service among them is not started.

    Raises:
        BenchError: we are not root, this is no Debian, or apt-get fails.
    """
    wanted = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(f"{wanted} is missing; run: sudo apt-get install {wanted}.")
    say(f"Installing {wanted} (the first time only)...")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")  # "do not start services", Debian policy 9.3.3
        _POLICY.chmod(0o755)
    try:
        _run(["apt-get", "update", "-qq"], "update the list of packages", environment)
        _run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], f"install {wanted}", environment
        )
    finally:
        if ours:
            _POLICY.unlink()


def nginx_with_nchan(say: Callable[[str], None]) -> None:
    """Install nginx and its module, unless they are there.

    Raises:
        BenchError: they cannot be installed.
    """
    if not (NCHAN_MODULE.exists() and NGINX.exists()):
        debian_packages(["nginx", "libnginx-mod-nchan"], say)


def everything(say: Callable[[str], None]) -> None:
    """Install whatever can be installed, and say what cannot."""
    for install in (partial(program, "load"), partial(program, "floor"), npm_packages, nginx_with_nchan):
        try:
            install(say)
        except BenchError as error:
            say(f"{error} The benchmarks that need it go on without it.")


def npm_packages(say: Callable[[str], None]) -> None:
    """Install what ``peers/package-lock.json`` names into ``peers/node_modules``.

    Raises:
        BenchError: there is no npm, or it fails.
    """
    lock, stamp = PEERS / "package-lock.json", PEERS / "node_modules" / "stamp"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return
    if shutil.which("npm") is None:
        raise BenchError("npm is missing; install Node 20 or newer.")
    say("Installing npm ws (the first time only)...")
    _run(["npm", "--prefix", str(PEERS), "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], "install ws")
    stamp.write_bytes(lock.read_bytes())


def _run(command: Sequence[str], what: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise BenchError(f"Could not {what}: {lines[-1]}")
