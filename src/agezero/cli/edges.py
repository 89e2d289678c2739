"""``agezero edges``: the fleet, and how far each edge has come."""

from __future__ import annotations

import time
from typing import Annotated

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
    """List and remove edges.

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
        table([edge.name, edge.state, str(edge.tier), str(edge.watermark), str(edge.lag), ",".join(edge.does), edge.trouble] for edge in edges)


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
