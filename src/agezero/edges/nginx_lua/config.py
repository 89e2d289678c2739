"""The files that go into an existing nginx, made from where the table and the socket are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from agezero.errors import UserError

CONFIGURATIONS = ("agezero-http.conf", "agezero-location.conf")
_QUOTABLE = re.compile(r"/[A-Za-z0-9._/@+-]*")
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
    """Where things are. ``folder``: the four files; ``table``: the purge table; ``socket``: where nginx answers the agent."""

    folder: Path = Path("/etc/nginx/agezero")
    table: Path = Path("/var/lib/agezero/slots")
    socket: Path = Path("/run/agezero/nginx.sock")
    canary: str = "127.0.0.1:8479"

    def __post_init__(self) -> None:
        for name in ("folder", "table", "socket"):
            path = str(getattr(self, name))
            if not _QUOTABLE.fullmatch(path):
                raise UserError(f"{name} is {path!r}", "expected an absolute path of letters, digits and . _ - + @, which nginx can read unquoted")


def files(options: Options) -> dict[str, str]:
    """Name and content of what goes into ``options.folder``."""
    package = resources.files(__package__)
    load = _LOAD.format(folder=options.folder, table=options.table)
    made = {
        name: Template(package.joinpath(name).read_text()).substitute(load=load, socket=options.socket, canary=options.canary)
        for name in CONFIGURATIONS
    }
    made["agezero_nginx.lua"] = package.joinpath("agezero_nginx.lua").read_text()
    made["agezero.lua"] = resources.files("agezero.edges.lua").joinpath("agezero.lua").read_text()
    return made


def write(options: Options) -> None:
    """Write them, readable by nginx's user."""
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(options).items():
        (options.folder / name).write_text(text)
        (options.folder / name).chmod(0o644)


def files_as_text(options: Options) -> str:
    """All files in one text, each under its name: what ``agezero edge-config`` prints."""
    parts = (f"{'--' if name.endswith('.lua') else '#'} File: {options.folder / name}\n{text}" for name, text in files(options).items())
    return "\n".join(parts)
