"""The embedded edge as one of the caches of the common suite."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agezero.edges.nginx.driver import NginxDriver
from agezero.edges.nginx.process import EdgeProcess, end, running
from agezero.edges.nginx.settings import EdgeSettings
from agezero.edges.slots import SlotFile
from support.caches.base import CacheEdge
from support.freezing import freeze
from support.ports import free_address


class EmbeddedEdge(CacheEdge):
    """nginx as `agezero up` runs it."""

    def __init__(self, origin: str, data: Path, *, without: str = "", **settings: Any) -> None:
        super().__init__()
        data.mkdir(parents=True, exist_ok=True)
        self.settings = EdgeSettings(origin=origin, **{"slots": 2**16, "listen": free_address(), "workers": 2, **settings})
        self.url = f"http://{self.settings.listen}"
        self.process = EdgeProcess(self.settings, data, epoch_in_key=without != "race", lease_checked=without != "fence")
        self.state = self.slots = SlotFile(data / "slots", self.settings.slots)
        self.driver = NginxDriver(self.process.files, self.slots, self.process.files.marks(self.settings))

    def start(self) -> None:
        self.call(self.process.start(wipe=bool(self.slots.doubt)))

    def stop(self) -> None:
        self.call(self.process.stop())

    def kill(self) -> None:
        """Its supervisor starts it again."""
        self.call(end(self.process.files.home, at_once=True))

    def freeze(self) -> None:
        freeze(running(self.process.files.home))

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in running(self.process.files.home):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


@contextmanager
def running_embedded(origin: str, data: Path, **options: Any) -> Iterator[EmbeddedEdge]:
    """Start it in front of ``origin`` with a lease; ended on leaving."""
    edge = EmbeddedEdge(origin, data, **options)
    try:
        edge.start()
        edge.open()
        yield edge
    finally:
        edge.close()
