"""``agezero edges``: the fleet, and how far each edge has come."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from agezero.cli.output import data, note
from agezero.cli.purges import DEFAULT_URL, PrivateKey, ServiceUrl, Timeout, required_key

application = typer.Typer(help="List and remove edges.", invoke_without_command=True)

COLUMNS = ("name", "state", "tier", "watermark", "lag", "does", "trouble")


@application.callback()
def show(
    context: typer.Context,
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 60,
) -> None:
    """List the edges.

    Columns: name, state, tier, watermark, lag, what its driver does exactly, trouble.
    """
    from agezero.cli.client import Client

    if context.invoked_subcommand is not None:
        return
    with Client(url, required_key(key), time.monotonic() + timeout) as client:
        edges = client.edges()
    rows = [[edge.name, edge.state, str(edge.tier), str(edge.watermark), str(edge.lag), ",".join(edge.does), edge.trouble] for edge in edges]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    for row in rows:
        data("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@application.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `agezero edges` prints it.")],
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 60,
) -> None:
    """Say that an edge is gone for good, so that no purge waits for it.

    Take it out of agezero.toml too, or it joins again at the next start.
    """
    from agezero.cli.client import Client

    with Client(url, required_key(key), time.monotonic() + timeout) as client:
        client.remove_edge(name)
    note(f"the edge {name} is removed; one that fences itself counts until its lease is over")
