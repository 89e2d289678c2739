"""``agezero edge-config`` and ``agezero doctor``: for those who set a cache of their own up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agezero.cli.options import Json
from agezero.cli.output import CommandFailed, Exit, data, json_lines, note, painted
from agezero.cli.service import ConfigFile, DataDir

if TYPE_CHECKING:
    from agezero.config.edges import ExternalEdge
    from agezero.edges.kinds import Finding


def edge_config(
    edge: Annotated[str, typer.Argument(metavar="EDGE", help="The name of an edge in [[edges]], or of a driver.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Print what a cache's configuration needs, with comments.

    For an edge in agezero.toml with its paths and addresses; for a driver with its defaults.

    Examples:
        agezero edge-config front-1 > /etc/varnish/agezero.vcl
        agezero edge-config nginx
    """
    from agezero.edges.kinds import edge_folder, kind_of

    options, directory = _edge(edge, data_dir, config, drivers=True)
    data(kind_of(options.driver).configuration(options, edge_folder(directory.resolve(), options.name)))


def doctor(
    edge: Annotated[str, typer.Argument(metavar="EDGE", help="The name of an edge in [[edges]].")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Check a running cache: a canary object is cached, purged, raced, fenced.

    Run it while `agezero up` does not: a cache obeys one agent.

    Examples:
        agezero doctor front-1
        agezero doctor front-1 --json | jq 'select(.ok | not)'
    """
    import asyncio

    from agezero.database import prepare
    from agezero.doctor import examine
    from agezero.edges.kinds import edge_folder, kind_of

    options, directory = _edge(edge, data_dir, config, drivers=False)
    with prepare(directory):
        folder = edge_folder(directory, options.name)
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        healthy = asyncio.run(examine(options, kind_of(options.driver), folder, _tell_json if json else _tell))
    if not healthy:
        raise CommandFailed(Exit.FAILED, f"purges of {options.name} can not be proven as it is")
    note(f"{options.name} is as it should be")


def _edge(name: str, data_dir: str | None, config: Path | None, *, drivers: bool) -> tuple[ExternalEdge, Path]:
    from agezero.config import read_config
    from agezero.config.edges import DRIVERS

    settings = read_config(config, {"data": data_dir})
    named = [edge for edge in settings.edges if edge.name == name]
    if named:
        return named[0], settings.data_dir
    if drivers and name in DRIVERS:
        return DRIVERS[name](name=name), settings.data_dir
    known = ", ".join([edge.name for edge in settings.edges] + list(DRIVERS) * drivers) or "none"
    raise CommandFailed(Exit.FAILED, f"there is no edge {name!r} in the settings; known are: {known}", "name one, or add it to [[edges]]")


def _tell(finding: Finding) -> None:
    data(
        f"{painted('ok ', 'good', sys.stdout) if finding.ok else painted('BAD', 'bad', sys.stdout)}  {finding.what}"
        + (f": {finding.said}" if finding.said else "")
    )
    if finding.fix and not finding.ok:
        data(f"     hint: {finding.fix}")


def _tell_json(finding: Finding) -> None:
    json_lines([{"ok": finding.ok, "what": finding.what, "said": finding.said, "fix": "" if finding.ok else finding.fix}])
