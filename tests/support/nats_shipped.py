"""The servers of ``deploy/nats/``, started as those files are written: three with TLS and accounts, and a leaf node."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agezero.jetstream.link import Access
from support.certificates import Authority
from support.nats import Server, Servers, program
from support.ports import free_port
from support.waiting import wait_for

DEPLOY = Path(__file__).parents[2] / "deploy" / "nats"
LEAF_PASSWORD = "secret-of-the-leaf"
USERS = ("control", "admin", "edge-a", "edge-b")


@dataclass
class Shipped(Server):
    """One server with the configuration ``file``, told its place by the environment, as the file says."""

    file: str = "server.conf"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return DEPLOY / self.file

    @property
    def url(self) -> str:
        return f"{'tls' if self.file == 'server.conf' else 'nats'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        log = (self.directory / f"{self.environment['NATS_NAME']}.log").open("ab")
        self.process = subprocess.Popen([program(), "-c", str(self.config)], env={**os.environ, **self.environment}, stdout=log, stderr=log)
        log.close()


@dataclass
class ShippedServers(Servers):
    """All three, and what is needed to get in."""

    bundle: Path = Path()
    leaf_ports: list[int] = field(default_factory=list)

    def access(self, user: str) -> Access:
        """As ``user``, to all three."""
        context = ssl.create_default_context(cafile=self.bundle)
        return Access(servers=self.urls, user=user, password=password(user), tls=context)

    def options(self, user: str) -> dict[str, Any]:
        """For :func:`support.logs.linked`."""
        access = self.access(user)
        return {"user": access.user, "password": access.password, "tls": access.tls}


def password(user: str) -> str:
    return f"secret-of-{user}"


@contextlib.contextmanager
def shipped_servers(directory: Path) -> Iterator[ShippedServers]:
    """Three servers, ready; killed with the block."""
    authority = Authority(directory / "certificates")
    authority.server("IP:127.0.0.1")
    folder = directory / "certificates"
    routes, leaves = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
    common = {
        "NATS_CERT": str(folder / "server.pem"),
        "NATS_KEY": str(folder / "server.key"),
        "NATS_CA": str(authority.bundle),
        "NATS_ROUTE_PASSWORD": "secret-of-routes",
        **{f"NATS_ROUTE_{n + 1}": f"nats://route:secret-of-routes@127.0.0.1:{port}" for n, port in enumerate(routes)},
        **{f"NATS_{user.upper().replace('-', '_')}_PASSWORD": password(user) for user in USERS},
    }
    servers = ShippedServers(bundle=authority.bundle, leaf_ports=leaves)
    for n in range(3):
        server = Shipped(directory, n, free_port(), free_port(), routes[n], routes)
        server.environment = {
            **common,
            "NATS_NAME": f"server-{n}",
            "NATS_LISTEN": f"127.0.0.1:{server.port}",
            "NATS_ROUTE_LISTEN": f"127.0.0.1:{routes[n]}",
            "NATS_LEAF_LISTEN": f"127.0.0.1:{leaves[n]}",
            "NATS_MONITOR": f"127.0.0.1:{server.monitor}",
            "NATS_STORE": str(directory / f"store-{n}"),
        }
        servers.all.append(server)
    with killed(servers.all):
        for each in servers.all:
            each.start()
        servers.ready()
        yield servers


@dataclass
class Leaf(Shipped):
    """The leaf node of ``host``: the file as shipped, with that name for each ``edge-a``, as it says. ``guarded``: without, it lets everybody in."""

    host: str = ""
    guarded: bool = True

    @property
    def config(self) -> Path:
        text = (DEPLOY / "leaf.conf").read_text().replace("edge-a", self.host)
        made = self.directory / "leaf.conf"
        made.write_text(text if self.guarded else re.sub(r"authorization \{.*?\n\}\n", "", text, flags=re.DOTALL))
        return made

    def listening(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def access(self) -> Access:
        """As its agent."""
        return Access(servers=[self.url], user=self.host, password=LEAF_PASSWORD)


@contextlib.contextmanager
def shipped_leaf(directory: Path, hub: ShippedServers, host: str, guarded: bool = True) -> Iterator[Leaf]:
    """A leaf node for ``host``."""
    leaf = Leaf(directory, 9, free_port(), 0, 0, [], file="leaf.conf", host=host, guarded=guarded)
    leaf.environment = {
        "NATS_NAME": f"leaf-{host}",
        "NATS_LISTEN": f"127.0.0.1:{leaf.port}",
        "NATS_CA": str(hub.bundle),
        "NATS_AGENT_PASSWORD": LEAF_PASSWORD,
        **{f"NATS_HUB_{n + 1}": f"tls://{host}:{password(host)}@127.0.0.1:{port}" for n, port in enumerate(hub.leaf_ports)},
    }
    with killed([leaf]):
        leaf.start()
        wait_for(leaf.listening, "the leaf node listens")
        yield leaf


@contextlib.contextmanager
def killed(servers: Sequence[Server]) -> Iterator[None]:
    """Killed with the block."""
    try:
        yield
    finally:
        for server in servers:
            server.kill()
