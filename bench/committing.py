"""The least that a durable purge API can do, on the same server, event loop and disk: read the URL, put it into SQLite, answer once it is there.

``python -m bench.committing HOST:PORT DIR``. Whoever waits shares a commit with all the others. No key, no check, no limit, no id, no edge.
"""

from __future__ import annotations

import asyncio
import queue
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import msgspec
import uvloop
from starlette.types import Receive, Scope, Send

from agezero.database import open_database, prepare
from agezero.http.server import HttpServer
from agezero.log.sqlite import SCHEMA

_START = {"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"application/json")]}
_BODY = {"type": "http.response.body", "body": b'{"requestId":"000000000000000000000000"}'}
_INSERT = "INSERT INTO purge (kind, value, key_id, accepted_ms) VALUES ('url', ?, 'environment', ?)"
_Entry = tuple[str, "asyncio.Future[None]"]


class Body(msgspec.Struct):
    """What is sent."""

    url: str


class Committing:
    """The application."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._queue: queue.SimpleQueue[_Entry] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._decode = msgspec.json.Decoder(Body).decode
        threading.Thread(target=self._write, daemon=True).start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """201 once it is durable."""
        if scope["method"] == "POST":
            done = self._loop.create_future()
            self._queue.put((self._decode((await receive())["body"]).url, done))
            await done
        await send({**_START, "status": 201 if scope["method"] == "POST" else 200})
        await send(_BODY)

    def _write(self) -> None:
        with prepare(self._folder), closing(open_database(self._folder)) as connection:
            connection.executescript(SCHEMA)
            while True:
                entries = [self._queue.get()]
                while not self._queue.empty():
                    entries.append(self._queue.get_nowait())
                now_ms = time.time_ns() // 1_000_000
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_INSERT, [(url, now_ms) for url, _ in entries])
                connection.execute("COMMIT")
                self._loop.call_soon_threadsafe(_settle, entries)


def _settle(entries: list[_Entry]) -> None:
    for _, done in entries:
        if not done.done():
            done.set_result(None)


async def _serve(host: str, port: int, folder: Path) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with HttpServer(Committing(folder), host, port, by_rsgi=False):
        await stop.wait()


if __name__ == "__main__":
    given_host, _, given_port = sys.argv[1].rpartition(":")
    uvloop.run(_serve(given_host, int(given_port), Path(sys.argv[2])))
