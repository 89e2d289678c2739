"""Where a Traffic Server of ``[[edges]]`` and its table are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from agezero.config.checks import parse_address
from agezero.config.edges import TrafficServer
from agezero.edges.trafficserver.look import TrafficServerLook
from agezero.errors import UserError


def table_path(options: TrafficServer, folder: Path) -> Path:
    """Where the purge table lies."""
    return Path(options.table).absolute() if options.table else folder / "table"


def hosts(options: TrafficServer) -> Sequence[str]:
    """The hosts whose rules are asked. Raises :class:`UserError` where none is known."""
    found = options.hosts or (urlsplit(options.front).netloc,)
    if not all(found):
        raise UserError(f"the edge {options.name} names no host", "set edges.hosts to the hosts of its rules in remap.config, or edges.front")
    return found


def look(options: TrafficServer, folder: Path) -> TrafficServerLook:
    """Asks this Traffic Server."""
    return TrafficServerLook(parse_address(options.control), hosts(options), table_path(options, folder))
