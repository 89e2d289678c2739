"""A user's own nginx with Lua as one of the caches of the common suite."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from agezero.config.edges import Nginx
from agezero.edges.nginx_lua.config import Options, write
from agezero.edges.nginx_lua.driver import NginxLuaDriver
from agezero.edges.slots import SlotFile
from support.caches.base import running
from support.caches.nginx_own import Edit, OwnNginxEdge
from support.programs import find

NGINX = ("nginx", "modules/ndk_http_module.so", "modules/ngx_http_lua_module.so")
_OFF = {"fence": ("agezero.lua", "now < tonumber(words[UNTIL])", "true")}


class NginxLuaEdge(OwnNginxEdge):
    """``without``: "race" (the plain key), "fence", "include" (no AgeZero at all), "cache" (for the canary).

    ``edit``: of what is shipped. ``more``: locations.
    """

    def __init__(
        self,
        origin: str,
        data: Path,
        *,
        without: str = "",
        edit: Edit | None = None,
        workers: int = 2,
        slots: int = 2**16,
        canary: str = "",
        more: str = "",
    ) -> None:
        super().__init__(data, canary)
        self.program, *self.modules = [str(find(name)) for name in NGINX]
        self.options = Options(folder=self.folder, table=self.home / "table", socket=self.socket, canary=self.canary)
        self.described = Nginx(name="nginx", table=str(self.options.table), control=str(self.socket), front=self.url, canary=self.canary, slots=slots)
        write(self.options)
        self.edit(edit, _OFF.get(without))
        self.configure(origin, without, workers, more)
        self.state = self.slots = SlotFile(self.options.table, slots, mode=0o644)
        self.driver = NginxLuaDriver(self.slots, self.options.socket, timeout_s=2)


def running_nginx_lua(origin: str, data: Path, *, opened: bool = True, **options: Any) -> AbstractContextManager[NginxLuaEdge]:
    """Start it in front of ``origin``; ``opened``: with a lease. Ended on leaving."""
    return running(NginxLuaEdge(origin, data, **options), opened=opened)
