"""The embedded edge, real, driven from a test: nginx as a child, its driver, and a client of its front."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar

import httpx

from agezero.core.purge import Purge
from agezero.core.selector import Selector, parse_url
from agezero.edges.nginx.driver import NginxDriver
from agezero.edges.nginx.process import EdgeProcess
from agezero.edges.nginx.settings import EdgeSettings
from agezero.edges.slots import SlotFile
from agezero.ports import Lease
from support.ports import free_address

T = TypeVar("T")
CALL_S = 60
LEASE_S = 600.0


class Edge:
    """A running edge. ``client`` speaks to its front; the rest to its control side."""

    def __init__(self, settings: EdgeSettings, data: Path, *, epoch_in_key: bool = True, lease_checked: bool = True) -> None:
        self.settings = settings
        self.url = f"http://{settings.listen}"
        self.slots = SlotFile(data / "slots", settings.slots)
        self.process = EdgeProcess(settings, data, epoch_in_key=epoch_in_key, lease_checked=lease_checked)
        self.files = self.process.files
        self.marks = self.files.marks(settings)
        self.driver = NginxDriver(self.files, self.slots, self.marks)
        self.client = httpx.Client(base_url=self.url, timeout=CALL_S)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of the edge's on the edge's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_S)

    def start(self) -> None:
        self.call(self.process.start(wipe=bool(self.slots.doubt)))
        self.driver.take_over(self.slots.token + 1)

    def open(self, length_s: float = LEASE_S) -> None:
        """What an agent does before the first lease: load the table, then install one."""
        self.call(self.driver.restore(self.call(self.driver.probe())))
        self.lease(length_s)

    def lease(self, length_s: float = LEASE_S) -> None:
        self.call(self.driver.install(Lease(self.slots.token, time.monotonic(), length_s)))

    def purge(self, what: str | Selector) -> None:
        """Apply a purge of a path of this edge (with ``*``: a prefix), or of a selector; confirmed on return."""
        selector = parse_url(self.url + what) if isinstance(what, str) else what
        seq = self.slots.watermark + 1
        self.call(self.driver.apply([Purge(seq, selector)]))
        self.slots.save(seq, "log")

    def get(self, target: str = "/", **headers: str) -> httpx.Response:
        return self.client.get(target, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def ask(self, target: str) -> str:
        """The edge's word on a GET of exactly this ``target``, which an HTTP client would tidy up."""
        connection = HTTPConnection(*self.settings.address, timeout=CALL_S)
        with closing(connection):
            connection.putrequest("GET", target)
            connection.endheaders()
            return str(connection.getresponse().headers["Cache-Status"]).rpartition("edge; ")[2]

    def close(self) -> None:
        self.client.close()
        self.call(self.driver.aclose())
        self.call(self.process.stop())
        self.slots.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def running_edge(origin: str, data: Path, *, epoch_in_key: bool = True, lease_checked: bool = True, **settings: Any) -> Iterator[Edge]:
    """Start an edge in front of ``origin`` with a loaded table and a lease; ended on leaving."""
    settings = {"slots": 2**12, "listen": free_address(), "workers": 1, **settings}
    edge = Edge(EdgeSettings(origin=origin, **settings), data, epoch_in_key=epoch_in_key, lease_checked=lease_checked)
    try:
        edge.start()
        edge.open()
        yield edge
    finally:
        edge.close()


def status(response: httpx.Response) -> str:
    """What this edge said of the answer: ``hit; ttl=9`` of ``edge; hit; ttl=9``."""
    return response.headers["Cache-Status"].rpartition("edge; ")[2]


def is_hit(response: httpx.Response) -> bool:
    return status(response).startswith("hit;")
