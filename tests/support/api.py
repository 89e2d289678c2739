"""The real HTTP side, on a real socket in a thread of its own: ImageKit's calls in front of purges in memory, the native ones in front of a real
log and control side, with an edge in memory."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import httpx
import msgspec

from agezero.agent import Agent
from agezero.audit import Audit
from agezero.background import background, threads_ended
from agezero.config import Config
from agezero.console.ended import EndedHere
from agezero.console.mount import Console
from agezero.console.sessions import Sessions
from agezero.control import Control
from agezero.core.purge import RequestIds
from agezero.database import open_database
from agezero.events import ControlEvents
from agezero.http.application import build_application
from agezero.http.metrics import HttpMetrics
from agezero.http.native.routes import Native
from agezero.http.server import HttpServer
from agezero.journal import Journal
from agezero.keys import KeyStore
from agezero.log.history import SqliteHistory
from agezero.log.sqlite import SqliteLog
from agezero.registry import SqliteRegistry
from agezero.webhooks.service import Webhooks
from agezero.webhooks.store import Store
from support.edges import MemoryEdge, MemoryStore
from support.purges import MemoryPurges

KEY = "private_api_contract_test"
ENDPOINT = "https://cdn.example.com/site"
SECRET = b"a secret of at least thirty-two bytes, of the tests"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Api:
    url: str
    purges: MemoryPurges
    keys: KeyStore
    client: httpx.Client
    """Sends KEY."""
    native: Native
    edge: MemoryEdge
    """The first of the fleet, named ``edge``: what applies the purges of the native API."""
    log: SqliteLog
    loop: asyncio.AbstractEventLoop
    control: Control
    served: frozenset[tuple[str, str]]
    """Method and path of all that is served."""

    def within(self, work: Callable[[], T]) -> T:
        """Do it in the service's event loop."""

        async def done() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(30)


@dataclass(frozen=True, slots=True)
class _Running:
    port: int
    loop: asyncio.AbstractEventLoop
    stop: asyncio.Event
    native: Native
    log: SqliteLog
    control: Control
    served: frozenset[tuple[str, str]]


@contextmanager
def running_api(
    config: Config | None = None,
    data: Path | None = None,
    edges: int = 1,
    fleet: Mapping[str, tuple[MemoryEdge, int]] | None = None,
    lease_s: float = 60,
    port: int = 0,
) -> Iterator[Api]:
    """Serve on ``port`` (0: a free one) until the block ends. ``data``: a directory to find again what was there. ``fleet``: edges, tiers by name."""
    if data is None:
        with TemporaryDirectory() as folder, running_api(config, Path(folder), edges, fleet, lease_s, port) as api:
            yield api
        return
    fleet = fleet or ({"edge": (MemoryEdge(), 0)} if edges else {})
    config = config or Config(endpoints=(ENDPOINT,))
    keys = KeyStore(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False), given=KEY)
    purges = MemoryPurges()
    started: threading.Event = threading.Event()
    running: list[_Running] = []

    async def serve() -> None:
        log = SqliteLog(open_database(data))
        registry, history, rows = (open_database(data) for _ in range(3))
        hooks, ended = open_database(data), open_database(data)
        with closing(log.connection), closing(registry), closing(history), closing(rows), closing(hooks), closing(ended):
            control = Control(log, SqliteRegistry(registry), RequestIds(SECRET), lease_s, 1)
            past = SqliteHistory(history)
            events = ControlEvents(control, past)
            webhooks = Webhooks(Store(hooks), events, **msgspec.structs.asdict(config.webhooks))
            native = Native(Journal(control, past), Audit(rows, past), webhooks)
            stop = asyncio.Event()
            log.start()
            app = build_application(config, purges, keys, HttpMetrics(), native, partial(Console, Sessions(SECRET, EndedHere(ended))))
            agents = [Agent(name, edge, log, control, MemoryStore(), tier=tier) for name, (edge, tier) in fleet.items()]
            async with threads_ended():
                async with (
                    background(control.run(), native.audit.run(), webhooks.run(), *(agent.run() for agent in agents)),
                    HttpServer(app, "127.0.0.1", port) as server,
                ):
                    for agent in agents:
                        await agent.serving.wait()
                    running.append(_Running(server.port, asyncio.get_running_loop(), stop, native, log, control, app.served))
                    control.started = True
                    started.set()
                    await stop.wait()
                    control.progress.close()
                await native.audit.flush()
                await log.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(30)
    it, (edge, _) = running[0], next(iter(fleet.values()), (MemoryEdge(), 0))
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{it.port}", auth=(KEY, ""), timeout=30) as client:
            yield Api(f"http://127.0.0.1:{it.port}", purges, keys, client, it.native, edge, it.log, it.loop, it.control, it.served)
    finally:
        it.loop.call_soon_threadsafe(it.stop.set)
        thread.join(30)
    assert not thread.is_alive()
