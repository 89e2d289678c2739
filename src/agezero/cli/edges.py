"""``agezero edges``: the fleet, and how far each edge has come."""

from __future__ import annotations

import time
from typing import Annotated
from urllib.parse import quote

import typer

from agezero.cli.application import Application
from agezero.cli.options import DEFAULT_URL, Json, PrivateKey, ServiceUrl, Timeout, required_key
from agezero.cli.output import json_lines, note, table

application = Application(invoke_without_command=True)


@application.callback()
def show(
    context: typer.Context,
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 60,
    json: Json = False,
) -> None:
    """List, drain and remove edges.

    Without a command it lists them. Columns: name, state, tier, watermark, lag, what its driver does exactly, trouble.

    Examples:
        agezero edges
        agezero edges --json | jq -r 'select(.lag > 0) | .name'
        agezero edges remove front-2
    """
    from agezero.cli.client import Client

    if context.invoked_subcommand is not None:
        return
    with Client(url, required_key(key), time.monotonic() + timeout) as client:
        edges = client.edges()
    if json:
        json_lines(edges)
    else:
        rows = ([edge.name, edge.state, str(edge.tier), str(edge.watermark), str(edge.lag), ",".join(edge.does), edge.trouble] for edge in edges)
        table(("name", "state", "tier", "watermark", "lag", "does", "trouble"), rows)


@application.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `agezero edges` prints it.")],
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 60,
) -> None:
    """Say that an edge is gone for good, so that no purge waits for it.

    Take it out of agezero.toml too, or it joins again at the next start.

    Examples:
        agezero edges remove front-2
    """
    from agezero.cli.client import Client

    with Client(url, required_key(key), time.monotonic() + timeout) as client:
        client.remove_edge(name)
    note(f"the edge {name} is removed; one that fences itself counts until its lease is over")


@application.command()
def drain(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `agezero edges` prints it.")],
    undo: Annotated[bool, typer.Option("--undo", help="Put it back into service.")] = False,
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 60,
) -> None:
    """Take an edge out of service: it gets no lease, bypasses its cache once its last one is over, and holds no purge up.

    It goes on applying purges, so --undo puts it back at once. One that can't fence itself holds purges up until it is removed.

    Examples:
        agezero edges drain front-2
        agezero edges drain front-2 --undo
    """
    from agezero.cli.client import Client

    with Client(url, required_key(key), time.monotonic() + timeout) as client:
        client.call("DELETE" if undo else "PUT", f"/v1/edges/{quote(name, safe='')}/drain")
    note(f"the edge {name} is in service again" if undo else f"the edge {name} gets no further lease")
