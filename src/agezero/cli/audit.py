"""``agezero audit``: who did what, from where, when, over the API of a running service."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Annotated

import typer

from agezero.cli.options import DEFAULT_URL, Json, PrivateKey, ServiceUrl, Timeout, required_key
from agezero.cli.output import data, json_lines
from agezero.cli.times import moment

if TYPE_CHECKING:
    from agezero.wire import AuditRow

Moment = Annotated[datetime | None, typer.Option(metavar="TIME", parser=moment, help="How long ago, such as 24h, or 2026-01-31T12:00:00Z.")]


def audit(  # noqa: PLR0913, PLR0917 (each is a flag)
    action: Annotated[list[str] | None, typer.Option(metavar="WHAT", help="Only this, such as purge or key.create; repeatable.")] = None,
    by: Annotated[str, typer.Option("--by", metavar="ID", help="Only by the key with this id.")] = "",
    address: Annotated[str, typer.Option(metavar="IP", help="Only from this address.")] = "",
    about: Annotated[str, typer.Option(metavar="TEXT", help="Only what has this text in it.")] = "",
    since: Moment = None,
    until: Moment = None,
    limit: Annotated[int, typer.Option(min=0, metavar="N", help="At most so many rows; 0: all.")] = 0,
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 60,
    json: Json = False,
) -> None:
    """Print who did what, from where, when; newest first.

    Columns: time, action, key, address, about what. Needs a key with the permission admin.

    Examples:
        agezero audit --limit 20
        agezero audit --since 24h --action purge --by 3f9c21aa
        agezero audit --since 2026-01-01T00:00:00Z --until 2026-02-01T00:00:00Z --json > january.jsonl
    """
    from agezero.cli.client import Client

    def wanted(row: AuditRow) -> bool:
        return (
            (not action or row.action in action)
            and (not by or row.key == by)
            and (not address or row.address == address)
            and about in row.about
            and (until is None or datetime.fromisoformat(row.at) < until)
        )

    with Client(url, required_key(key), time.monotonic() + timeout) as client:
        rows: Iterator[AuditRow] = client.audit()
        if since is not None:
            rows = takewhile(lambda row: datetime.fromisoformat(row.at) >= since, rows)
        for row in islice(filter(wanted, rows), limit or None):
            if json:
                json_lines([row])
            else:
                data(f"{row.at}  {row.action:14}  {row.key or '-':8}  {row.address or '-':15}  {' '.join(row.about.split())}".rstrip())
