"""The files that go into an existing nginx, made from where the table and the socket are."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from agezero.edges.lua import library
from agezero.edges.shipped import as_text, demand_quotable, write_files

CONFIGURATIONS = ("agezero-http.conf", "agezero-location.conf", "agezero-tagged.conf")
MODULES = ("agezero_nginx.lua", "agezero_tags.lua")
# A module that cannot be loaded must not take the cache with it: pcall, and no epoch.
_LOAD = """local agezero = package.loaded.agezero_nginx
    if not agezero then
        local ok, loaded = pcall(function()
            return assert(loadfile("{folder}/agezero_nginx.lua"))("{folder}", "{table}")
        end)
        if not ok then
            ngx.log(ngx.ERR, "agezero: the cache is bypassed: ", loaded)
            return ""
        end
        agezero, package.loaded.agezero_nginx = loaded, loaded
    end"""


@dataclass(frozen=True, slots=True)
class Options:
    """Where things are. ``folder``: the seven files; ``table``: the purge table; ``socket``: where nginx answers the agent."""

    folder: Path = Path("/etc/nginx/agezero")
    table: Path = Path("/var/lib/agezero/slots")
    socket: Path = Path("/run/agezero/nginx.sock")
    canary: str = "127.0.0.1:8479"

    def __post_init__(self) -> None:
        demand_quotable(folder=self.folder, table=self.table, socket=self.socket)


def files(options: Options) -> dict[str, str]:
    """Name and content of what goes into ``options.folder``."""
    package = resources.files(__package__)
    load = _LOAD.format(folder=options.folder, table=options.table)
    made = {
        name: Template(package.joinpath(name).read_text()).substitute(load=load, socket=options.socket, canary=options.canary)
        for name in CONFIGURATIONS
    }
    made |= {name: package.joinpath(name).read_text() for name in MODULES}
    made |= library()
    return made


def write(options: Options) -> None:
    """Write them, readable by nginx's user."""
    write_files(options.folder, files(options))


def files_as_text(options: Options) -> str:
    """All files in one text, each under its name: what ``agezero edge-config`` prints."""
    return as_text(options.folder, files(options))
