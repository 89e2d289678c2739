"""What each driver brings: one table, from its name in ``[[edges]]`` to the parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from agezero.config.edges import DRIVERS
from agezero.core.position import Position
from agezero.ports import Capabilities, EdgeDriver

_MODULES = {
    "varnish": "agezero.edges.varnish.kind",
    "nginx": "agezero.edges.nginx_lua.kind",
    "nginx-njs": "agezero.edges.nginx_njs.kind",
    "trafficserver": "agezero.edges.trafficserver.kind",
    "squid": "agezero.edges.squid.kind",
}


class EdgeState(Protocol):
    """What an agent keeps of its edge, in a file that one process may have open."""

    doubt: str
    watermark: int
    lineage: str

    def load(self) -> Position:
        """How far the agent has come."""
        ...

    def save(self, watermark: int, epoch: str) -> None:
        """Raises ``OSError``."""
        ...

    def mark_lineage(self, mark: str) -> None:
        """See :mod:`agezero.lineage`."""
        ...

    def distrust(self, reason: str) -> None:
        """Purge everything before the cache is trusted again."""
        ...

    def close(self) -> None:
        """In good order."""
        ...


@dataclass(frozen=True, slots=True)
class OpenEdge:
    """A driver, and the state it works on. Close the state after the driver."""

    driver: EdgeDriver
    state: EdgeState


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``fix`` says what to do where it is not as it should be."""

    what: str
    ok: bool
    said: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class DriverKind:
    """``open(options, folder)``: the folder is the edge's own in the data directory. ``options`` is the driver's struct in config/edges.py."""

    title: str
    capabilities: Capabilities
    notes: dict[str, str]
    """What the table of capabilities says beside yes and no, by row."""
    open: Callable[[Any, Path], OpenEdge]
    configuration: Callable[[Any, Path], str]
    examine: Callable[[Any, Path], Awaitable[Sequence[Finding]]]


def kind_of(driver: str) -> DriverKind:
    """The parts of the driver with this name; loaded only when asked for."""
    kind: DriverKind = import_module(_MODULES[driver]).KIND
    return kind


def edge_folder(data: Path, name: str) -> Path:
    """Where an edge of ``[[edges]]`` keeps what it must not lose."""
    return data / "edges" / name


assert _MODULES.keys() == DRIVERS.keys()
