"""What this driver brings to :mod:`agezero.edges.kinds`."""

from __future__ import annotations

from pathlib import Path

from agezero.config.edges import Squid
from agezero.edges.kinds import DriverKind, OpenEdge
from agezero.edges.squid.driver import CAPABILITIES, configuration, open_edge
from agezero.edges.squid.examine import examine


def _open(options: Squid, folder: Path) -> OpenEdge:
    return OpenEdge(*open_edge(options, folder))


KIND = DriverKind(
    title="Squid 5 or newer",
    capabilities=CAPABILITIES,
    notes={"the purge table outlives a restart of the cache": "its helper maps it again before it answers"},
    open=_open,
    configuration=configuration,
    examine=examine,
)
