"""A real HTTP origin whose answers say what they are: the version of the content, and when it was read. As slow as it is told to be.

It runs in the event loop of the test, so that stamps and the test's own times come from one monotonic clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

Pace = Callable[[str, int], tuple[float, float]]
"""Path and version → seconds between reading the content and the headers (infinite: it hangs up instead), and between the halves of the body."""
HANGS_UP = (math.inf, 0.0)
CACHE_CONTROL = "max-age=3600, stale-while-revalidate=3600, stale-if-error=3600"
VARIANT = "x-variant"
_HEAD = "HTTP/1.1 200 OK\r\nCache-Control: {}\r\nVary: {}\r\nContent-Length: {}\r\n\r\n"
_FILLING = b"." * 200


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a body says. ``fetched_s``: when the origin read the content, monotonic."""

    version: int
    fetched_s: float
    variant: str

    def body(self) -> bytes:
        return f"{self.version} {self.fetched_s!r} {self.variant} ".encode() + _FILLING

    @classmethod
    def of(cls, body: bytes) -> Stamp:
        """Raises ValueError where ``body`` is not one of ours."""
        version, fetched_s, variant, _ = body.decode().split(" ")
        return cls(int(version), float(fetched_s), variant)


@dataclass
class StampedOrigin:
    """Answers any GET; every path begins at version 1; one variant for each value of ``X-Variant``."""

    pace: Pace
    cache_control: str
    url: str = ""
    versions: dict[str, int] = field(default_factory=lambda: defaultdict(lambda: 1))
    fetches: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(path, version) → how often it was read."""
    open: Counter[tuple[str, int]] = field(default_factory=Counter)
    """(path, version) → answers that were begun and have not ended."""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _stop: Callable[[], None] = lambda: None

    async def read(self, path: str, version: int, times: int) -> None:
        """Return once ``path`` has been read so often at ``version``."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.fetches[path, version] >= times)

    def down(self) -> None:
        """From now on nobody answers at ``url``."""
        self._stop()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in request[1:] if line)
                await self._answer(request[0].split(" ")[1], fields.get(VARIANT, "-"), writer)
        except (OSError, asyncio.IncompleteReadError):  # the edge has hung up
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, variant: str, writer: asyncio.StreamWriter) -> None:
        version = self.versions[path]
        body = Stamp(version, time.monotonic(), variant).body()
        before_s, during_s = self.pace(path, version)
        self.open[path, version] += 1
        try:
            async with self._changed:
                self.fetches[path, version] += 1
                self._changed.notify_all()
            if math.isinf(before_s):
                raise ConnectionAbortedError
            await asyncio.sleep(before_s)
            writer.write(_HEAD.format(self.cache_control, VARIANT, len(body)).encode())
            writer.write(body[:100])
            await asyncio.sleep(during_s)
            writer.write(body[100:])
            await writer.drain()
        finally:
            self.open[path, version] -= 1


@contextlib.asynccontextmanager
async def stamped_origin(pace: Pace = lambda *_: (0.0, 0.0), cache_control: str = CACHE_CONTROL) -> AsyncIterator[StampedOrigin]:
    """Serve on a free loopback port."""
    origin = StampedOrigin(pace, cache_control)
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(origin.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=1024)
    origin._stop = lambda: _end(server, connections)
    origin.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield origin
    finally:
        _end(server, connections)
        await asyncio.gather(*connections, return_exceptions=True)


def _end(server: asyncio.Server, connections: set[asyncio.Task[None]]) -> None:
    server.close()
    for task in connections:
        task.cancel()
