"""A simulated edge: a cache in memory in front of a real origin, with a driver for a real agent. Lease first, then the epoch in the key."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from agezero.core.epochs import EpochTable
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind
from agezero.ports import Capabilities, Lease
from support.stamped import VARIANT
from support.wire import Answer, Wire

SLOTS = 1 << 14


@dataclass
class SimulatedEdge:
    """``lease_checked``: the safeguard. A cache that crashes has lost its table and its objects."""

    origin: str
    host: str
    lease_checked: bool = True
    token: int = 0
    boot_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    table: EpochTable = field(default_factory=lambda: EpochTable([0] * SLOTS))
    _lease: tuple[float, float] = (0.0, 0.0)
    _stored: dict[tuple[int, str, str], Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._wire = Wire(urlsplit(self.origin).netloc, {"host": self.host})

    async def request(self, path: str, variant: str) -> Answer:
        """As a visitor. Raises :class:`support.wire.Broken`."""
        if self.lease_checked and not self._leased():
            return await self._fetch(path, variant, "fwd=bypass; detail=fenced")
        key = (self.table.newest(self.host + path), path, variant)  # before the fetch: what comes back late is stored where nobody looks
        stored = self._stored.get(key)
        if stored is not None:
            return Answer(stored.status, {"cache-status": "simulated; hit"}, stored.body)
        answer = await self._fetch(path, variant, "fwd=miss")
        if answer.status == 200:
            self._stored[key] = answer
        return answer

    def crash(self) -> None:
        """All is forgotten."""
        self.boot_id, self.table, self._lease = uuid.uuid4().hex, EpochTable([0] * SLOTS), (0.0, 0.0)
        self._stored.clear()

    async def _fetch(self, path: str, variant: str, told: str) -> Answer:
        answer = await self._wire.request("GET", path, {VARIANT: variant})
        return Answer(answer.status, {"cache-status": f"simulated; {told}"}, answer.body)

    def _leased(self) -> bool:
        begins_s, ends_s = self._lease
        return begins_s <= time.monotonic() < ends_s

    # As a driver

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(exact=frozenset(Kind) - {Kind.TAG}, fences=True, restores=False)

    def take_over(self, token: int) -> None:
        self.token = token

    async def probe(self) -> str:
        return self.boot_id

    async def restore(self, boot_id: str) -> None:
        raise NotImplementedError

    async def apply(self, purges: Sequence[Purge]) -> None:
        for purge in purges:
            self.table.apply(purge.seq, purge.selector)

    async def purge_everything(self, seq: int) -> None:
        self.table.apply(seq, EVERYTHING)
        self._stored = {key: answer for key, answer in self._stored.items() if key[0] > seq}

    async def install(self, lease: Lease) -> None:
        self._lease = (lease.asked_at_s, lease.asked_at_s + lease.length_s)

    async def fence(self) -> None:
        self._lease = (0.0, 0.0)

    async def aclose(self) -> None:
        await self._wire.aclose()
