"""An edge in memory: a driver over a real purge table, with barriers where a test wants to hold it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from agezero.core.epochs import EpochTable
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind
from agezero.ports import Capabilities, DriverFailed, DriverRefused, Lease


@dataclass
class MemoryEdge:
    """The driver and the cache in one. ``broken``: every call fails; ``refused``: kinds it cannot do; ``open``: applies wait for it."""

    fences: bool = True
    boot_id: str = "boot-1"
    broken: str = ""
    refused: frozenset[Kind] = frozenset()
    token: int = 0
    leases: list[Lease] = field(default_factory=list)
    applied: list[Purge] = field(default_factory=list)
    restored: list[str] = field(default_factory=list)
    table: EpochTable = field(default_factory=lambda: EpochTable([0] * 1024))
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.open.set()

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(exact=frozenset(Kind) - {Kind.TAG}, fences=self.fences, restores=True)

    def take_over(self, token: int) -> None:
        self.token = token

    async def probe(self) -> str:
        self._check()
        return self.boot_id

    async def restore(self, boot_id: str) -> None:
        self._check()
        self.restored.append(boot_id)

    async def apply(self, purges: Sequence[Purge]) -> None:
        await self.open.wait()
        self._check()
        if any(purge.selector.kind in self.refused for purge in purges):
            raise DriverRefused("cannot do this")
        for purge in purges:
            self.table.apply(purge.seq, purge.selector)
            self.applied.append(purge)

    async def purge_everything(self, seq: int) -> None:
        self._check()
        self.table.apply(seq, EVERYTHING)

    async def install(self, lease: Lease) -> None:
        self._check()
        self.leases.append(lease)

    async def fence(self) -> None:
        self._check()

    async def aclose(self) -> None:
        pass

    def _check(self) -> None:
        if self.broken:
            raise DriverFailed(self.broken)


@dataclass
class MemoryStore:
    """A position that outlives the agent."""

    position: Position = field(default_factory=Position)
    full: bool = False

    def load(self) -> Position:
        return self.position

    def save(self, watermark: int, epoch: str) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self.position = Position(watermark, epoch)
