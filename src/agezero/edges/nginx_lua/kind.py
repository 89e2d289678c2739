"""Your own nginx by Lua, as one of the drivers of ``[[edges]]``."""

from __future__ import annotations

from pathlib import Path

from agezero.config.edges import Nginx
from agezero.edges.kinds import DriverKind, OpenEdge
from agezero.edges.nginx_lua.config import Options, files_as_text
from agezero.edges.nginx_lua.driver import CAPABILITIES, NginxLuaDriver
from agezero.edges.nginx_lua.examine import examine
from agezero.edges.slots import SlotFile

_READABLE = 0o644  # nginx's workers are another user, and a purge table is no secret


def _open(options: Nginx, folder: Path) -> OpenEdge:
    slots = SlotFile(_table(options, folder), options.slots, mode=_READABLE)
    return OpenEdge(NginxLuaDriver(slots, Path(options.control)), slots)


def _table(options: Nginx, folder: Path) -> Path:
    return Path(options.table) if options.table else folder / "table"


def _configuration(options: Nginx, folder: Path) -> str:
    return files_as_text(Options(table=_table(options, folder), socket=Path(options.control), canary=options.canary))


KIND = DriverKind(
    title="nginx (own, Lua)",
    capabilities=CAPABILITIES,
    notes={"tag": "in locations with `agezero-tagged.conf`; in others it purges everything"},
    open=_open,
    configuration=_configuration,
    examine=examine,
)
