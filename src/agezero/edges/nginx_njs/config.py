"""The files that go into an existing nginx, made from where they lie, where the socket is, and the size of the table."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template

from agezero.edges.nginx.config import SLOT_BYTES
from agezero.edges.shipped import as_text, demand_quotable, write_files

CONFIGURATIONS = ("agezero-http.conf", "agezero-location.conf", "agezero-tagged.conf")
MODULES = ("edge.js", "control.js")
"""The embedded edge's own."""
_ZONE_KIB = 256


@dataclass(frozen=True, slots=True)
class Options:
    """Where things are. ``folder``: the seven files; ``socket``: where nginx obeys the agent; ``slots``: size of the table."""

    folder: Path = Path("/etc/nginx/agezero")
    socket: Path = Path("/run/agezero/nginx.sock")
    slots: int = 1 << 18
    canary: str = "127.0.0.1:8479"

    def __post_init__(self) -> None:
        demand_quotable(folder=self.folder, socket=self.socket)


def files(options: Options) -> dict[str, str]:
    """Name and content of what goes into ``options.folder``."""
    package = resources.files(__package__)
    # Another number of slots is another size of the zone: so a reload brings it back empty, and no worker looks for a purge in a place of before.
    zone_kib = _ZONE_KIB + options.slots * SLOT_BYTES // 1024
    values = {"folder": options.folder, "socket": options.socket, "canary": options.canary, "zone_kib": zone_kib}
    made = {name: Template(package.joinpath(name).read_text()).substitute(values) for name in CONFIGURATIONS}
    embedded = resources.files("agezero.edges.nginx")
    made |= {name: embedded.joinpath(name).read_text() for name in MODULES}
    made["tags.js"] = package.joinpath("tags.js").read_text()
    made["settings.js"] = f"export default {json.dumps({'slots': options.slots, 'lease_checked': True})};\n"
    return made


def write(options: Options) -> None:
    """Write them, readable by nginx's user."""
    write_files(options.folder, files(options))


def files_as_text(options: Options) -> str:
    """All files in one text, each under its name: what ``agezero edge-config`` prints."""
    return as_text(options.folder, files(options))
