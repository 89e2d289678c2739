"""Apache Traffic Server, as one of the drivers of ``[[edges]]``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agezero.config.edges import TrafficServer
from agezero.edges.kinds import DriverKind, OpenEdge
from agezero.edges.slots import SlotFile
from agezero.edges.trafficserver.config import Options, files_as_text
from agezero.edges.trafficserver.driver import CAPABILITIES, TrafficServerDriver
from agezero.edges.trafficserver.examine import examine
from agezero.edges.trafficserver.place import hosts, look, table_path

_READABLE = 0o644  # Traffic Server is another user, and a purge table is no secret: it holds numbers


def _open(options: TrafficServer, folder: Path) -> OpenEdge:
    slots = SlotFile(table_path(options, folder), options.slots, mode=_READABLE)
    return OpenEdge(TrafficServerDriver(slots, look(options, folder)), slots)


def _configuration(options: TrafficServer, folder: Path) -> str:
    return files_as_text(Options(table=table_path(options, folder), canary=options.canary, hosts=_hosts_or_example(options)))


def _hosts_or_example(options: TrafficServer) -> Sequence[str]:
    """A configuration can be looked at before it is known for which hosts."""
    return hosts(options) if options.hosts or options.front else ("www.example.com",)


KIND = DriverKind(
    title="Traffic Server 9",
    capabilities=CAPABILITIES,
    notes={"the purge table outlives a restart of the cache": "its script maps it before the first answer"},
    open=_open,
    configuration=_configuration,
    examine=examine,
)
