"""Drives a Traffic Server: a purge is a write to the table that its Lua states map, under every spelling that it takes for the one named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agezero.core.purge import Purge
from agezero.edges.mapped import CAPABILITIES, MappedDriver
from agezero.edges.trafficserver.spellings import spellings


class TrafficServerDriver(MappedDriver):
    """Implements :class:`agezero.ports.EdgeDriver`; ``slots`` is opened with a mode that Traffic Server's user may read."""

    async def apply(self, purges: Sequence[Purge]) -> None:
        """On return the next request reads it."""
        await super().apply([replace(purge, selector=selector) for purge in purges for selector in spellings(purge.selector)])


__all__ = ["CAPABILITIES", "TrafficServerDriver"]
