"""nginx with nchan, one worker, memory store; Debian's packages."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
from contextlib import closing
from typing import Final

from bench.install import NCHAN_MODULE, NGINX, nginx_with_nchan
from bench.peers.framing import message
from bench.processes import family
from bench.servers.http import post_all
from bench.servers.server import START_SECONDS, Server
from bench.stage import BenchError

_CONFIGURATION: Final = """
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {scratch}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /ws {{ nchan_subscriber websocket; nchan_channel_id bench; nchan_subscriber_first_message newest; }}
        location = /publish {{ nchan_publisher http; nchan_channel_id bench; nchan_message_timeout 5s; }}
    }}
}}
"""


class Nchan(Server):
    """nginx's worker holds the sockets."""

    name = "nchan"

    async def start(self) -> None:
        nginx_with_nchan(lambda _: None)
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        configuration = self.scratch / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                module=NCHAN_MODULE, scratch=self.scratch, port=self.port, files=20_000, connections=19_000
            ),
            encoding="utf-8",
        )
        await self.run([NGINX, "-c", configuration, "-p", self.scratch])
        until = asyncio.get_running_loop().time() + START_SECONDS
        while asyncio.get_running_loop().time() < until:
            self.check()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
        raise BenchError(f"nginx did not listen in {START_SECONDS:.0f} s.")

    @property
    def serving(self) -> int:
        assert self._process is not None  # noqa: S101 - started
        return max(family([self._process.pid]) - {self._process.pid})

    async def publish(self, count: int, size: int) -> None:
        """By its own publisher, two requests under way, so that there is always a next one."""
        await post_all(self.port, "/publish", count, lambda: message(size), connections=2)

    @staticmethod
    def versions() -> dict[str, str]:
        """Of nginx and nchan."""
        nginx = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
        package = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"], capture_output=True, text=True, check=False
        ).stdout
        return {"nginx": re.sub(r".*nginx/(\S+).*", r"\1", nginx.strip()), "nchan": package or "unknown"}
