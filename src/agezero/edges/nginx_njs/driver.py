"""Drives your own nginx by njs: as the embedded edge's, but nginx is started, reloaded and upgraded by others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agezero.core.purge import Purge
from agezero.core.selector import Kind
from agezero.edges.nginx.driver import TIMEOUT_S, TableDriver
from agezero.edges.nginx_njs.last_lease import LastLease
from agezero.edges.slots import SlotFile
from agezero.edges.tags import as_read
from agezero.ports import DriverFailed


class NginxNjsDriver(TableDriver):
    """Implements :class:`agezero.ports.EdgeDriver`. Every call names the boot id that it is meant for, and no other nginx obeys it."""

    capabilities = replace(TableDriver.capabilities, exact=frozenset(Kind))
    silent = "nginx does not answer its agent"
    hint = "\nhint: include agezero-http.conf in http { }, reload nginx, and let the agent enter the socket's folder"

    def __init__(self, slots: SlotFile, socket: Path, last: LastLease, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(socket, slots, timeout_s)
        self._last = last
        self._boot = ""

    async def restore(self, boot_id: str) -> None:
        """Only once no other run of nginx can have a lease: :mod:`agezero.edges.nginx_njs.last_lease`."""
        self._demand_one_run(boot_id)
        await super().restore(boot_id)

    async def apply(self, purges: Sequence[Purge]) -> None:
        """Confirmed on return."""
        await super().apply(as_read(purges))

    async def fence(self) -> None:
        """End the lease at once. One that another run of nginx may still have is out of reach."""
        await super().fence()
        self._last.end(self._boot)
        self._demand_one_run(self._boot)

    def _look_at(self, state: dict[str, Any]) -> None:
        size = len(self._slots.table.slots)
        if state.get("slots") != size:
            raise DriverFailed(
                f"nginx looks for purges in a table of {state.get('slots')} slots, and the agent's has {size}\n"
                "hint: print its configuration anew with `agezero edge-config`, and reload nginx"
            )
        self._boot = str(state["boot"])

    def _demand_one_run(self, boot_id: str) -> None:
        if left_s := self._last.left_s(boot_id):
            raise DriverFailed(
                f"nginx was started or reloaded anew, and what is left of the one before may use the cache for another {left_s:.1f} s\n"
                "hint: wait until its lease is over"
            )

    async def _lease(self, issued_ms: int, until_ms: int) -> None:
        self._demand_one_run(self._boot)
        until_s = until_ms / 1000 - time.time() + time.monotonic()  # in this order: after a pause between the two more is waited for, not less
        self._last.begin(self._boot, until_s, issued_ms, until_ms)
        await super()._lease(issued_ms, until_ms)

    async def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        return await super()._call(method, path, **{"boot": self._boot, **body})
