"""A user's own nginx with Lua as one of the caches of the common suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agezero.edges.nginx_lua.config import Options, write
from agezero.edges.nginx_lua.driver import NginxLuaDriver
from agezero.edges.slots import SlotFile
from support.caches.nginx_own import Edit, OwnNginxEdge
from support.programs import find

NGINX = ("nginx", "modules/ndk_http_module.so", "modules/ngx_http_lua_module.so")
_OFF = {"fence": ("agezero.lua", "now < tonumber(words[UNTIL])", "true")}


class NginxLuaEdge(OwnNginxEdge):
    """``without``: "race" (the plain key), "fence", "include" (no AgeZero at all). ``edit``: of what is shipped."""

    def __init__(self, origin: str, data: Path, *, without: str = "", edit: Edit | None = None, workers: int = 2, slots: int = 2**16) -> None:
        super().__init__(data)
        self.program, *self.modules = [str(find(name)) for name in NGINX]
        self.options = Options(folder=self.folder, table=self.home / "table", socket=self.socket)
        write(self.options)
        self.edit(edit, _OFF.get(without))
        self.configure(origin, without, workers)
        self.state = self.slots = SlotFile(self.options.table, slots, mode=0o644)
        self.driver = NginxLuaDriver(self.slots, self.options.socket, timeout_s=2)


@contextmanager
def running_nginx_lua(origin: str, data: Path, *, opened: bool = True, **options: Any) -> Iterator[NginxLuaEdge]:
    """Start it in front of ``origin``; ``opened``: with a lease. Ended on leaving."""
    edge = NginxLuaEdge(origin, data, **options)
    try:
        edge.start()
        if opened:
            edge.open()
        yield edge
    finally:
        edge.close()
