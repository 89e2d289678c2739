"""Documents that several stores share, in memory, with an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agezero.ports import BoardUnavailable, Document, Overtaken


class MemoryDocuments:
    """``broken``: nothing can be written."""

    def __init__(self) -> None:
        self.known: dict[str, Document] = {}
        self.broken = False
        self._at = 0
        self._watchers: list[Callable[[str], None]] = []

    def get(self, name: str) -> Document | None:
        return self.known.get(name)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name, document in self.known.items() if document.data and name.startswith(prefix))

    def watch(self, changed: Callable[[str], None]) -> None:
        self._watchers.append(changed)

    async def put(self, name: str, data: bytes, after: int) -> int:
        if self.broken:
            raise BoardUnavailable("no quorum")
        known = self.known.get(name)
        if (known.at if known else 0) != after:
            raise Overtaken(name)
        self._at += 1
        self.known[name] = Document(self._at, data)
        for tell in self._watchers:
            tell(name)
        return self._at

    async def forget(self, prefix: str) -> None:
        for name in self.names(prefix):
            del self.known[name]


@contextmanager
def loop_of_its_own() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
