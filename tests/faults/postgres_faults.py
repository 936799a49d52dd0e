"""What can happen to a Postgres server: each as a function on its first process."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stopped and not ended: its connections stay and nothing answers, the worst way to be away."""
    stopped = _stop(pid)
    try:
        yield
    finally:
        for process in reversed(stopped):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def _stop(pid: int) -> list[psutil.Process]:
    server = psutil.Process(pid)
    server.send_signal(signal.SIGSTOP)  # first, so that it makes no more children
    stopped = [server]
    for child in server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.send_signal(signal.SIGSTOP)
            stopped.append(child)
    return stopped


def kill(pid: int) -> None:
    """``kill -9`` of the server and of every process of it, at once."""
    for process in reversed(_stop(pid)):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def kill_a_backend(pid: int) -> None:
    """``kill -9`` of one connection's process, the one that has worked most; the server ends all and recovers."""
    backends = [child for child in psutil.Process(pid).children() if "[local]" in child.cmdline()[0]]
    max(backends, key=lambda child: child.cpu_times().user).kill()


def end(pid: int) -> None:
    """Stop it in order, without waiting for its clients."""
    os.kill(pid, signal.SIGINT)


class SmallDisk:
    """A file system of its own in memory, which can be filled to the last byte. Takes root."""

    def __init__(self, mount: Path, megabytes: int) -> None:
        self.mount = mount
        self._size = megabytes
        self._fill = mount / "fill"

    @contextmanager
    def mounted(self) -> Iterator[None]:
        self.mount.mkdir()
        options = f"size={self._size}m,mode=755"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.mount)], check=True)
        try:
            yield
        finally:
            self._unmount()

    def _unmount(self) -> None:
        for _ in range(50):
            if subprocess.run(["umount", str(self.mount)], capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)  # the server's last process is still ending
        subprocess.run(["umount", "--lazy", str(self.mount)], check=True)

    @contextmanager
    def full(self) -> Iterator[None]:
        """No byte is free inside."""
        with self._fill.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        try:
            yield
        finally:
            self._fill.unlink()
