"""The real HTTP side, on a real socket in a thread of its own, in front of purges in memory."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from agezero.config import Config
from agezero.http.application import build_application
from agezero.http.metrics import HttpMetrics
from agezero.http.server import HttpServer
from agezero.keys import KeyStore
from support.purges import MemoryPurges

KEY = "private_api_contract_test"
ENDPOINT = "https://cdn.example.com/site"


@dataclass(frozen=True, slots=True)
class Api:
    url: str
    purges: MemoryPurges
    keys: KeyStore
    client: httpx.Client
    """Sends KEY."""


@contextmanager
def running_api(config: Config | None = None) -> Iterator[Api]:
    """Serve on a free port until the block ends."""
    config = config or Config(endpoints=(ENDPOINT,))
    keys = KeyStore(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False), given=KEY)
    purges = MemoryPurges()
    app = build_application(config, purges, keys, HttpMetrics())
    started: threading.Event = threading.Event()
    running: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with HttpServer(app, "127.0.0.1", 0) as server:
            running.append((server.port, asyncio.get_running_loop(), stop))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(30)
    port, loop, stop = running[0]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=(KEY, ""), timeout=30) as client:
            yield Api(f"http://127.0.0.1:{port}", purges, keys, client)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
    assert not thread.is_alive()
