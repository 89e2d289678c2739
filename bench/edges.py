"""Edges under test: the embedded one without a service, and its peer, a plain nginx, which is also the origin of all."""

from __future__ import annotations

import contextlib
import os
import pwd
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template

from agezero.core.purge import Purge
from agezero.core.selector import Selector
from agezero.edges.nginx.binary import find_nginx
from agezero.edges.nginx.driver import NginxDriver
from agezero.edges.nginx.process import EdgeProcess
from agezero.edges.nginx.settings import EdgeSettings
from agezero.edges.slots import SlotFile
from agezero.ports import Lease
from bench.harness import process, wait_until
from bench.service import answers
from support.ports import free_address

BODY_BYTES = 1024
HANDBOOK = "sendfile on;"
TUNED = "request_pool_size 16k; open_file_cache max=512 inactive=60s; open_file_cache_valid 60s; sendfile off;"
"""What the embedded edge has too: less mapping of memory, fewer files opened, head and body in one write."""
_LEASE_S = 3600.0  # longer than any benchmark
_BATCH = 1000  # as many as the agent gives to the driver at a time


@dataclass(frozen=True, slots=True)
class Plain:
    """Addresses of the plain cache and of the origin; ``master``: its process."""

    address: str
    origin: str
    master: int


@contextmanager
def plain(folder: Path, tuning: str = HANDBOOK) -> Iterator[Plain]:
    """One process of nginx, which caches under ``$host$request_uri``; ``tuning``: directives of its own."""
    folder.mkdir(parents=True)
    listen, origin = free_address(), free_address()
    user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
    values = {"home": folder, "listen": listen, "origin": origin, "user": user, "tuning": tuning, "body": "x" * BODY_BYTES}
    config, output = folder / "nginx.conf", folder / "output.log"
    config.write_text(Template(Path(__file__).with_name("plain.conf").read_text()).substitute(values))
    command: list[str | Path] = [find_nginx().binary, "-p", f"{folder}/", "-e", "stderr", "-c", config]
    with process(command, output) as child:
        wait_until(lambda: answers(listen, "/"), child, output)
        yield Plain(listen, origin, child.pid)


@dataclass(slots=True)
class Edge:
    """The embedded edge, leased. ``address`` is where it serves."""

    address: str
    driver: NginxDriver
    master: int
    seq: int = 0

    async def apply(self, selectors: Sequence[Selector]) -> None:
        """As an agent would: in batches, each confirmed."""
        for begin in range(0, len(selectors), _BATCH):
            part = selectors[begin : begin + _BATCH]
            await self.driver.apply([Purge(self.seq + i, selector) for i, selector in enumerate(part, 1)])
            self.seq += len(part)


@asynccontextmanager
async def edge(folder: Path, origin: str, *, epoch_in_key: bool = True) -> AsyncIterator[Edge]:
    """One process of nginx. ``epoch_in_key=False``: the same configuration with a plain cache key: no lease, no look-up."""
    folder.mkdir(parents=True)
    settings = EdgeSettings(origin=f"http://{origin}", listen=free_address(), workers=1)
    running = EdgeProcess(settings, folder, epoch_in_key=epoch_in_key)
    with closing(SlotFile(folder / "slots", settings.slots)) as slots:
        driver = NginxDriver(running.files, slots, running.files.marks(settings))
        await running.start(wipe=True)
        try:
            driver.take_over(1)
            await driver.purge_everything(0)
            await driver.install(Lease(1, time.monotonic(), _LEASE_S))
            assert running.pid is not None
            yield Edge(settings.listen, driver, running.pid)
        finally:
            await running.stop()
            await driver.aclose()


def children(master: int) -> list[int]:
    """The processes that serve for an nginx."""
    return [int(stat.parent.name) for stat in Path("/proc").glob("[0-9]*/stat") if _parent(stat) == master]


def _parent(stat: Path) -> int | None:
    with contextlib.suppress(OSError):
        return int(stat.read_text().rpartition(")")[2].split()[1])
    return None


def serving_cpu_s(master: int) -> float:
    """Processor time of all children of an nginx's master so far. Unlike requests per second it does not depend on who else uses the machine."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == master:
                ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
