"""``agezero purge`` and ``agezero status``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from agezero.cli.output import CommandFailed, Exit, data, error, note, spinner

if TYPE_CHECKING:
    from agezero.cli.client import Client

ServiceUrl = Annotated[str, typer.Option("--url", envvar="AGEZERO_URL", help="Address of the purge API.")]
PrivateKey = Annotated[
    str, typer.Option("--key", envvar="AGEZERO_PRIVATE_KEY", help="Private key; others can see it in a flag, so prefer the variable.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Return once it is proven that nothing stored before is served any more.")]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Seconds that all of it may take.")]

DEFAULT_URL = "http://127.0.0.1:8080"


def purge(
    urls: Annotated[list[str], typer.Argument(metavar="URL...", help="What to purge; a * at the end purges all that begins so.")],
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    wait: Wait = False,
    timeout: Timeout = 60,
) -> None:
    """Purge URLs and print their request ids.

    With --wait each id is printed with its status, once that is Completed.
    """
    from agezero.cli.client import Client

    deadline_s = time.monotonic() + timeout
    refused: CommandFailed | None = None
    with Client(url, required_key(key), deadline_s) as client:
        request_ids: list[str] = []
        for target in urls:
            try:
                request_ids.append(client.submit(target))
            except CommandFailed as failure:
                if failure.code is not Exit.REFUSED or len(urls) == 1:
                    raise
                refused = failure
                error(f"{target}: {failure.message}", failure.hint)
                continue
            if not wait:
                data(request_ids[-1])
        if wait:
            _wait_for(client, request_ids)
    if refused:
        raise CommandFailed(Exit.REFUSED, f"{len(urls) - len(request_ids)} of {len(urls)} purges were refused")


def status(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="What the purge was answered with.")],
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    wait: Wait = False,
    timeout: Timeout = 60,
) -> None:
    """Print a purge's status: Pending or Completed."""
    from agezero.cli.client import Client

    deadline_s = time.monotonic() + timeout
    with Client(url, required_key(key), deadline_s) as client:
        if wait:
            with spinner(f"waiting for {request_id}"):
                client.wait(request_id)
        data(client.status(request_id))


def _wait_for(client: Client, request_ids: list[str]) -> None:
    began_s = time.monotonic()
    with spinner(f"waiting for {len(request_ids)} purge(s) to be proven"):
        for request_id in request_ids:
            client.wait(request_id)
            data(f"{request_id} Completed")
    note(f"proven {1000 * (time.monotonic() - began_s):.0f} ms after acceptance")


def required_key(key: str) -> str:
    """The key, or an error that says where one comes from."""
    if not key:
        raise CommandFailed(Exit.FAILED, "no private key is given", "set AGEZERO_PRIVATE_KEY to the key that the first `agezero up` printed")
    return key
