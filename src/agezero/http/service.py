"""What the HTTP side needs from the control side."""

from __future__ import annotations

from typing import Protocol

from agezero.core.selector import Selector


class Purges(Protocol):
    """Submits purges and knows their status."""

    async def submit(self, selector: Selector, key_id: str) -> str:
        """The request id, once the purge is durable. Raises :class:`agezero.ports.LogUnavailable`."""
        ...

    def completed(self, request_id: str) -> bool | None:
        """None: not an id of this service. Reads memory only. Raises :class:`agezero.ports.StatusUnknown`."""
        ...

    def ready(self) -> str | None:
        """None when purges can be accepted and proven, else the reason why not."""
        ...
