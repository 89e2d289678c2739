"""Drives a cache that maps the agent's purge table: nginx and Traffic Server by Lua, Squid by its helper.

A purge is a write to memory that the cache's own code reads with the next request (:mod:`agezero.edges.readers`), so a purge costs no call and the
table outlives a restart of the cache. What has to be proven, before the first purge is confirmed and again with every lease, is that
this code runs in the cache and reads this very file: the driver writes a nonce there and has the cache repeat it (``Look``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agezero.core.purge import Purge
from agezero.core.selector import Kind
from agezero.edges.readers import KERNEL_BOOT_ID
from agezero.edges.slots import SlotFile
from agezero.ports import Capabilities, DriverFailed, Lease

CAPABILITIES = Capabilities(exact=frozenset({Kind.URL, Kind.PREFIX, Kind.HOST, Kind.EVERYTHING}), fences=True, restores=True, method="table")


class Look(Protocol):
    """Asks a cache, through its own data plane, what it reads in the table."""

    async def nonce(self) -> int:
        """The nonce that the cache sees. Raises :class:`agezero.ports.DriverFailed` where what answered is not our code in that cache."""
        ...

    async def aclose(self) -> None:
        """Let go of the cache."""
        ...


class MappedDriver:
    """Implements :class:`agezero.ports.EdgeDriver` over ``slots``, which the cache maps, and ``look``."""

    capabilities = CAPABILITIES

    def __init__(self, slots: SlotFile, look: Look) -> None:
        self._slots = slots
        self._look = look

    def take_over(self, token: int) -> None:
        """The lock on the table file admits one agent; the token is kept for the record."""
        self._slots.save_token(token)

    async def probe(self) -> str:
        """The boot id is the table's: a restarted cache maps it again and has lost nothing."""
        await self._confirm()
        return f"table {self._slots.path.stat().st_ino}"

    async def restore(self, boot_id: str) -> None:  # noqa: ARG002
        """Nothing to load; what counts is that the cache reads this table."""
        await self._confirm()

    async def apply(self, purges: Sequence[Purge]) -> None:
        """On return the next request reads it."""
        self._slots.apply(purges)

    async def purge_everything(self, seq: int) -> None:
        """Under a number that no stored object can have, whatever log or table it came from."""
        self._slots.purge_everything(seq)
        await self._confirm()

    async def install(self, lease: Lease) -> None:
        """Proven first, then leased: ``time.monotonic`` is the clock that the readers compare with."""
        await self._confirm()
        self._slots.readers.lease(int((lease.asked_at_s + lease.length_s) * 1e9))

    async def fence(self) -> None:
        """The next request bypasses."""
        self._slots.readers.lease(0)

    async def aclose(self) -> None:
        """Let go of the cache; the table belongs to whoever opened it."""
        await self._look.aclose()

    async def _confirm(self) -> None:
        expected = self._slots.readers.challenge()
        seen = await self._look.nonce()
        if seen != expected:
            raise DriverFailed(
                f"the cache does not read the purge table {self._slots.path}: it saw {seen} there, not {expected}\n"
                "hint: give the cache's configuration this path, and its user the right to read the file and to enter its directories; "
                f"it must see {KERNEL_BOOT_ID}, too"
            )
