"""Puts the parts together: the purge table that Squid's helper maps, the driver that writes it, and the configuration that Squid includes."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from string import Template

from agezero.config.checks import parse_address
from agezero.config.edges import Squid
from agezero.edges.mapped import CAPABILITIES, MappedDriver
from agezero.edges.slots import SlotFile
from agezero.edges.squid.look import SquidLook
from agezero.errors import UserError

TABLE_MODE = 0o644
"""Squid's user reads it. It tells nobody a URL: it holds numbers."""
FOLDER_MODE = 0o755
_HELPER = ("/usr/bin/env",)
"""Squid starts a program under its bare name, from which a Python of a virtual environment would not find its packages."""
_PLAIN = re.compile(r"[A-Za-z0-9_./@+-]+")


def table_path(options: Squid, folder: Path) -> Path:
    """Where the purge table lies."""
    return Path(options.table).absolute() if options.table else folder / "table"


def open_edge(options: Squid, folder: Path) -> tuple[MappedDriver, SlotFile]:
    """The driver and its table, which is made if it is not there. Raises :class:`agezero.edges.slots.SlotFileBusy`, ``OSError``."""
    table = table_path(options, folder)
    table.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    slots = SlotFile(table, options.slots, TABLE_MODE)
    return MappedDriver(slots, look(options, folder)), slots


def look(options: Squid, folder: Path) -> SquidLook:
    """Asks this Squid."""
    return SquidLook(parse_address(options.control), table_path(options, folder))


def configuration(options: Squid, folder: Path, *, helper: str = "", without: Collection[str] = ()) -> str:
    """What squid.conf includes. ``helper``: another command; ``without``: texts whose lines are left out, for tests of what the lines are for."""
    canary_host, canary_port = parse_address(options.canary)
    values = {
        "helper": helper or shlex.join((*_HELPER, sys.executable, "-I", "-m", "agezero.edges.squid.helper")),
        "table": table_path(options, folder),
        "control": options.control,
        "canary_host": canary_host,
        "canary_port": canary_port,
    }
    for value in (sys.executable, str(values["table"])):
        if not _PLAIN.fullmatch(value):
            raise UserError(f"squid.conf cannot hold the path {value!r}", "choose one of letters, digits and . _ - + @ /")
    text = Template(resources.files(__package__).joinpath("agezero.conf").read_text()).substitute(values)
    return "".join(line for line in text.splitlines(keepends=True) if not any(part in line for part in without))


__all__ = ["CAPABILITIES", "configuration", "look", "open_edge", "table_path"]
