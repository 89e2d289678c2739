"""Your own nginx by njs, as one of the drivers of ``[[edges]]``."""

from __future__ import annotations

from pathlib import Path

from agezero.config.edges import NginxNjs
from agezero.edges.kinds import DriverKind, OpenEdge
from agezero.edges.nginx_njs.config import Options, files_as_text
from agezero.edges.nginx_njs.driver import NginxNjsDriver
from agezero.edges.nginx_njs.examine import examine
from agezero.edges.nginx_njs.last_lease import LastLease
from agezero.edges.slots import SlotFile


def _open(options: NginxNjs, folder: Path) -> OpenEdge:
    slots = SlotFile(folder / "table", options.slots)
    return OpenEdge(NginxNjsDriver(slots, Path(options.control), LastLease(folder / "lease.json")), slots)


def _configuration(options: NginxNjs, folder: Path) -> str:  # noqa: ARG001 - nginx reads nothing of the data directory
    return files_as_text(Options(socket=Path(options.control), slots=options.slots, canary=options.canary))


KIND = DriverKind(
    title="nginx (own, njs)",
    capabilities=NginxNjsDriver.capabilities,
    notes={
        "tag": "in locations with `agezero-tagged.conf`; in others it purges everything",
        "the purge table outlives a restart of the cache": "the agent loads it again before the next lease",
    },
    open=_open,
    configuration=_configuration,
    examine=examine,
)
