"""The origin that the doctor opens for itself, under the path that the shipped configurations send to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.utils import formatdate

from agezero.config.checks import parse_address
from agezero.errors import UserError

HEAD = (
    "HTTP/1.1 200 OK\r\nDate: {}\r\nCache-Control: max-age=600\r\n"  # Squid stores nothing without Date
    "Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"
)


@dataclass
class Canary:
    """``fetched``: how often each path was asked for. A path in ``held`` is answered once its event is set."""

    fetched: Counter[str] = field(default_factory=Counter)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    version: int = 1
    _reached: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def reached(self, path: str, times: int) -> None:
        """Return once ``path`` has been asked for so often."""
        async with self._reached:
            await self._reached.wait_for(lambda: self.fetched[path] >= times)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one answer."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, IndexError):
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode("latin-1")
            body = f"canary {self.version}\n".encode()
            async with self._reached:
                self.fetched[path] += 1
                self._reached.notify_all()
            if path in self.held:
                await self.held[path].wait()
            writer.write(HEAD.format(formatdate(usegmt=True), len(body)).encode() + body)
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def listening(address: str) -> AsyncIterator[Canary]:
    """A canary on HOST:PORT. Raises :class:`UserError`."""
    canary, (host, port) = Canary(), parse_address(address)
    try:
        server = await asyncio.start_server(canary.serve, host, port)
    except OSError as error:
        raise UserError(
            f"the canary cannot listen on {address}: {error.strerror}", "choose another edges.canary, here and in the cache's configuration"
        ) from None
    try:
        yield canary
    finally:
        server.close()
