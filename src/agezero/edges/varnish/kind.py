"""Varnish, as one of the drivers of ``[[edges]]``."""

from __future__ import annotations

from pathlib import Path

from agezero.config.edges import Varnish
from agezero.edges.kinds import DriverKind, OpenEdge
from agezero.edges.position import PositionFile
from agezero.edges.varnish.driver import CAPABILITIES, VarnishDriver
from agezero.edges.varnish.examine import examine
from agezero.edges.varnish.vcl import vcl


def _open(options: Varnish, folder: Path) -> OpenEdge:
    state = PositionFile(folder / "position.json")
    return OpenEdge(VarnishDriver(Path(options.control), state, connections=options.connections), state)


def configuration(options: Varnish, folder: Path) -> str:  # noqa: ARG001 - Varnish reads nothing of the data directory
    """agezero.vcl, ready to be included."""
    start = f"# Start varnishd with:  -a agezero={options.control},mode=0600\n# (user=, group= and mode= as the agent's user needs them)\n"
    return vcl(options.canary).replace("vcl 4.1;\n", f"vcl 4.1;\n\n{start}", 1)


KIND = DriverKind(
    title="Varnish",
    capabilities=CAPABILITIES,
    notes={
        "prefix": "by bans; beyond 1,000 a minute widened to the host",
        "soft": "URLs and tags; prefixes, hosts and everything are hard",
    },
    open=_open,
    configuration=configuration,
    examine=examine,
)
