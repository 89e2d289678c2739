"""What the HTTP side needs from the control side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agezero.control import EdgeView
from agezero.core.selector import Selector


class Purges(Protocol):
    """Submits purges and knows their status."""

    async def submit(self, selector: Selector, key_id: str, *, address: str = "", again: str = "") -> str:
        """The request id, once the purge is durable. ``again``: the client's own name for it, under which it is accepted once.

        Raises :class:`agezero.ports.LogUnavailable`, :class:`agezero.ports.IdempotencyConflict`.
        """
        ...

    async def status(self, request_id: str) -> bool | None:
        """None: not an id of this service. Where one node serves, it reads memory only. Raises :class:`agezero.ports.StatusUnknown`."""
        ...

    def ready(self) -> str | None:
        """None when purges can be accepted and proven, else the reason why not."""
        ...

    def edges(self) -> Sequence[EdgeView]:
        """The fleet as it is now."""
        ...

    async def remove_edge(self, name: str) -> bool:
        """It is gone for good and no purge waits for it. False: there is none of this name."""
        ...

    async def drain_edge(self, name: str, drained: bool) -> bool:
        """It goes out of service, or comes back. False: there is none of this name."""
        ...
