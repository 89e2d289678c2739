"""``agezero edge-config`` and ``agezero doctor``: for those who set a cache of their own up."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from agezero.cli.options import Json
from agezero.cli.output import CommandFailed, Exit, data, json_lines, note, painted
from agezero.cli.service import ConfigFile, DataDir

if TYPE_CHECKING:
    from agezero.config import Config
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
    from agezero.config import read_config
    from agezero.edges.kinds import edge_folder, kind_of

    settings = read_config(config, {"data": data_dir})
    options = _named(edge, settings, drivers=True)
    data(kind_of(options.driver).configuration(options, edge_folder(settings.data_dir.resolve(), options.name)))


def doctor(
    edge: Annotated[str, typer.Argument(metavar="EDGE", help="The name of an edge in [[edges]].")],
    url: Annotated[str, typer.Option("--url", envvar="AGEZERO_URL", help="Address of the purge API, if it runs. [default: as in the settings]")] = "",
    data_dir: DataDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Check a running cache: a canary object is cached, purged, raced, fenced.

    Nothing but the canary is purged. Where `agezero up` runs, it is asked to purge it, and its lease is left alone.

    Examples:
        agezero doctor front-1
        agezero doctor front-1 --json | jq 'select(.ok | not)'
    """
    import asyncio
    import logging

    from agezero import logs
    from agezero.config import read_config
    from agezero.doctor import examine

    logs.configure(logging.CRITICAL)  # what an agent logs is told as a finding
    settings = read_config(config, {"data": data_dir})
    options = _named(edge, settings, drivers=False)
    if not asyncio.run(examine(settings, options, _tell_json if json else _tell, url)):
        raise CommandFailed(Exit.FAILED, f"purges of {options.name} can not be proven as it is")
    note(f"{options.name} is as it should be")


def _named(name: str, settings: Config, *, drivers: bool) -> ExternalEdge:
    from agezero.config.edges import DRIVERS

    named = [edge for edge in settings.edges if edge.name == name]
    if named:
        return named[0]
    if drivers and name in DRIVERS:
        return DRIVERS[name](name=name)
    if name == settings.edge.name:
        hint = "nothing is to be done for it: agezero writes its nginx's configuration and starts it; `agezero edges` says how it is"
        raise CommandFailed(Exit.FAILED, f"{name!r} is the embedded edge; this is for caches of your own, in [[edges]]", hint)
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
