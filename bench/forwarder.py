"""Wikimedia's design, redone as the simplest possible forwarder: URLs come into a queue in memory, a few tasks take them out, each sends a PURGE
over its own connection and takes any answer for done. At most once: no log, no position, no check. What is in the queue when it dies is lost.

``python -m bench.forwarder HOST:PORT CONNECTIONS``: reads URLs from its input, says "accepted N" at the end of it, and forwards until it is killed.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence

import uvloop


class Forwarder:
    """``address``: HOST:PORT of the cache. Use as a context manager; ``queue`` takes ``host/path``."""

    def __init__(self, address: str, connections: int) -> None:
        self.queue: asyncio.Queue[str] = asyncio.Queue()
        self._host, _, self._port = address.rpartition(":")
        self._connections = connections
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Forwarder:
        self._tasks = [asyncio.create_task(self._forward()) for _ in range(self._connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def purge(self, urls: Sequence[str]) -> float:
        """Seconds until all of them were answered, whatever with."""
        began_s = time.perf_counter()
        for url in urls:
            self.queue.put_nowait(url)
        await self.queue.join()
        return time.perf_counter() - began_s

    async def _forward(self) -> None:
        reader, writer = await asyncio.open_connection(self._host, int(self._port))
        try:
            while True:
                host, _, path = (await self.queue.get()).partition("/")
                writer.write(f"PURGE /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                await reader.readexactly(int(length or 0))
                self.queue.task_done()
        finally:
            writer.close()


async def _run(address: str, connections: int) -> None:
    async with Forwarder(address, connections) as forwarder:
        for line in sys.stdin:
            forwarder.queue.put_nowait(line.strip())
        print("accepted", forwarder.queue.qsize(), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_run(sys.argv[1], int(sys.argv[2])))
