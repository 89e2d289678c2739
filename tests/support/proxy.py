"""A TCP proxy that can be cut like a cable: connections stay open, and nothing passes, until it is healed."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

CHUNK = 65_536


@dataclass
class Proxy:
    """One listener for each of ``ports``, each passing on to the port at its place. Use it as :func:`proxied`."""

    ports: Sequence[int]
    own_ports: list[int] = field(default_factory=list)
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def urls(self) -> list[str]:
        return [f"nats://127.0.0.1:{port}" for port in self.own_ports]

    def cut(self) -> None:
        """From now on nothing passes. What was sent meanwhile arrives when it is healed, unless its sender has given up."""
        self.passing.clear()

    def heal(self) -> None:
        self.passing.set()

    async def start(self) -> list[asyncio.Server]:
        self.passing.set()
        servers = []
        for port in self.ports:
            server = await asyncio.start_server(functools.partial(self._accepted, port), "127.0.0.1", 0)
            self.own_ports.append(server.sockets[0].getsockname()[1])
            servers.append(server)
        return servers

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # a transport closes itself in a later turn of the loop

    def _accepted(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connection(reader, writer, port))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.close())  # it may be cancelled before it begins

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
        writers = [writer]
        with contextlib.suppress(OSError):
            try:
                await self.passing.wait()
                there, back = await asyncio.open_connection("127.0.0.1", port)
                writers.append(back)
                ways = [asyncio.create_task(self._pass(reader, back)), asyncio.create_task(self._pass(there, writer))]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                for each in writers:
                    each.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self.passing.wait()
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def proxied(ports: Sequence[int]) -> AsyncIterator[Proxy]:
    """Listening while the block lasts."""
    proxy = Proxy(ports)
    servers = await proxy.start()
    try:
        yield proxy
    finally:
        for server in servers:
            server.close()
        await proxy.stop()
