"""Drives your own nginx: purges are writes to the table that its workers map; what they map, one of them says on a unix socket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from agezero.core.purge import Purge
from agezero.core.selector import Kind
from agezero.edges.mapped import CAPABILITIES as MAPPED
from agezero.edges.mapped import MappedDriver
from agezero.edges.nginx.control import ControlClient, ControlFailed
from agezero.edges.slots import SlotFile
from agezero.edges.tags import as_read
from agezero.ports import DriverFailed

PROTOCOL = 2
CAPABILITIES = replace(MAPPED, exact=frozenset(Kind))
TIMEOUT_S = 10.0


class NginxLuaLook:
    """Implements :class:`agezero.edges.mapped.Look` over the unix socket of ``agezero-http.conf``."""

    def __init__(self, socket: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._socket = socket
        self._control = ControlClient(socket, timeout_s)

    async def nonce(self) -> int:
        """What a worker reads in the table; 0 where it has none."""
        try:
            status, said = await self._control.call("GET", "/nonce")
        except ControlFailed as error:
            raise DriverFailed(
                f"nginx does not answer on {self._socket}: {error}\n"
                "hint: include agezero-http.conf in http { }, reload nginx, and let the agent enter the socket's folder"
            ) from error
        answer = decoded(said)
        if status != 200 or answer.get("agezero") != PROTOCOL:
            raise DriverFailed(
                f"what answers on {self._socket} is not AgeZero's code in nginx (status {status}), or of another version\n"
                "hint: print its files anew with `agezero edge-config`, and reload nginx"
            )
        return int(answer["nonce"] or 0)

    async def aclose(self) -> None:
        """Close the connection."""
        self._control.close()


def decoded(said: bytes) -> dict[str, Any]:
    """A JSON object; empty for anything else."""
    try:
        return msgspec.json.decode(said, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


class NginxLuaDriver(MappedDriver):
    """Implements :class:`agezero.ports.EdgeDriver`; ``slots`` is opened with a mode that nginx's user may read."""

    capabilities = CAPABILITIES

    def __init__(self, slots: SlotFile, socket: Path, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(slots, NginxLuaLook(socket, timeout_s))

    async def apply(self, purges: Sequence[Purge]) -> None:
        """On return the next request reads it."""
        await super().apply(as_read(purges))


__all__ = ["CAPABILITIES", "NginxLuaDriver", "NginxLuaLook"]
