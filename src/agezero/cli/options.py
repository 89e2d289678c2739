"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from agezero.cli.output import CommandFailed, Exit
from agezero.cli.times import span

ServiceUrl = Annotated[str, typer.Option("--url", metavar="URL", envvar="AGEZERO_URL", help="Address of the purge API.", show_envvar=True)]
PrivateKey = Annotated[
    str,
    typer.Option(
        "--key",
        metavar="KEY",
        envvar="AGEZERO_PRIVATE_KEY",
        help="Private key; others can see it in a flag, so prefer the variable.",
        show_envvar=True,
    ),
]
Timeout = Annotated[
    float,
    typer.Option("--timeout", metavar="TIME", parser=span, show_default=False, help="How long all of it may take: 500ms, 60s, 5m. [default: 60s]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]

DEFAULT_URL = "http://127.0.0.1:8080"


def required_key(key: str) -> str:
    """The key, or an error that says where one comes from."""
    if not key:
        raise CommandFailed(Exit.FAILED, "no private key is given", "set AGEZERO_PRIVATE_KEY to the key that the first `agezero up` printed")
    return key
