"""The Protocol ``Purges`` in memory: seals real request ids, keeps what was submitted, completes and fails on demand."""

from __future__ import annotations

from dataclasses import replace

from agezero.control import EdgeView
from agezero.core.purge import RequestIds
from agezero.core.selector import Selector
from agezero.ports import LogUnavailable, StatusUnknown


class MemoryPurges:
    def __init__(self) -> None:
        self.submitted: list[tuple[Selector, str]] = []
        self.lowest = 0
        self.fleet = [EdgeView("edge", "leased", 0, 7, 0, ("url", "everything"), "")]
        self.unavailable = ""
        self.unknown = ""
        self.reason: str | None = None
        self.broken = False
        self.rejoin = False
        """An edge that is removed joins again at once, as a real agent does."""
        self._ids = RequestIds(b"a secret of at least thirty-two bytes")

    async def submit(self, selector: Selector, key_id: str, *, address: str = "", again: str = "") -> str:  # noqa: ARG002
        self._break()
        if self.unavailable:
            raise LogUnavailable(self.unavailable)
        self.submitted.append((selector, key_id))
        return self._ids.seal(len(self.submitted))

    async def status(self, request_id: str) -> bool | None:
        return self.completed(request_id)

    def completed(self, request_id: str) -> bool | None:
        self._break()
        if self.unknown:
            raise StatusUnknown(self.unknown)
        seq = self._ids.open(request_id)
        return None if seq is None else seq <= self.lowest

    def edges(self) -> list[EdgeView]:
        self._break()
        return self.fleet

    async def remove_edge(self, name: str) -> bool:
        self._break()
        left = [edge for edge in self.fleet if edge.name != name]
        found = len(left) < len(self.fleet)
        self.fleet = self.fleet if self.rejoin else left
        return found

    async def drain_edge(self, name: str, drained: bool) -> bool:
        self._break()
        self.fleet = [replace(edge, state="draining" if drained else "leased") if edge.name == name else edge for edge in self.fleet]
        return any(edge.name == name for edge in self.fleet)

    def ready(self) -> str | None:
        self._break()
        return self.reason

    def _break(self) -> None:
        if self.broken:
            raise RuntimeError("a secret detail")
