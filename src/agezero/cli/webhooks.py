"""``agezero webhooks``: who is told of events, over the API of a running service."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from agezero.cli.application import Application
from agezero.cli.options import DEFAULT_URL, Json, PrivateKey, ServiceUrl, Timeout, required_key
from agezero.cli.output import CommandFailed, Exit, data, json_lines, note, table

application = Application(
    """Tell other programs of events.

    Examples:
        agezero webhooks create https://ci.example.com/hooks/agezero --event purge.completed
        agezero webhooks list
    """
)
WebhookId = Annotated[str, typer.Argument(metavar="ID", help="As `agezero webhooks list` prints it.")]
_PATH = "/v1/webhooks"


@application.command()
def create(
    target: Annotated[str, typer.Argument(metavar="TARGET", help="The http or https URL that is told.")],
    event: Annotated[list[str], typer.Option("--event", help="purge.completed, purge.blocked, edge.fenced, edge.unfenced; repeatable.")],
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 60,
) -> None:
    """Make a webhook and print its secret, once.

    Examples:
        agezero webhooks create https://ci.example.com/hooks/agezero --event purge.blocked --event edge.fenced
    """
    made = _call(url, key, timeout, "POST", "", {"url": target, "events": event})
    note(f"made the webhook {made['webhook']['id']}; keep its secret, it is not shown again")
    data(made["secret"])


@application.command("list")
def show(url: ServiceUrl = DEFAULT_URL, key: PrivateKey = "", timeout: Timeout = 60, json: Json = False) -> None:
    """List the webhooks.

    Columns: id, URL, events, and why nothing is sent to it any more.

    Examples:
        agezero webhooks list
    """
    webhooks = _call(url, key, timeout, "GET", "")["webhooks"]
    if json:
        json_lines(webhooks)
        return
    table(("id", "url", "events", "stopped"), ([each["id"], each["url"], ",".join(each["events"]), each["stopped"]] for each in webhooks))


@application.command("test")
def send_test(webhook_id: WebhookId, url: ServiceUrl = DEFAULT_URL, key: PrivateKey = "", timeout: Timeout = 60) -> None:
    """Send a message now and say what came of it.

    Examples:
        agezero webhooks test wh_5d1c4a22e54d
    """
    sent = _call(url, key, timeout, "POST", f"/{_quoted(webhook_id)}/test")
    answer = f"the target answered {sent['status']}" if sent["status"] else sent["said"]
    if sent["state"] != "delivered":
        raise CommandFailed(Exit.FAILED, f"not delivered: {answer}", "a 2xx is expected")
    note(f"delivered: {answer}")


@application.command()
def delete(webhook_id: WebhookId, url: ServiceUrl = DEFAULT_URL, key: PrivateKey = "", timeout: Timeout = 60) -> None:
    """Tell it nothing more.

    Examples:
        agezero webhooks delete wh_5d1c4a22e54d
    """
    _call(url, key, timeout, "DELETE", f"/{_quoted(webhook_id)}")
    note(f"the webhook {webhook_id} is deleted")


@application.command()
def rotate(
    webhook_id: WebhookId,
    overlap: Annotated[str, typer.Option(metavar="TIME", help="How long the old secret signs too: now, 1h, 24h, 3d, 7d.")] = "24h",
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 60,
) -> None:
    """Make a new secret and print it, once.

    Examples:
        agezero webhooks rotate wh_5d1c4a22e54d --overlap 7d
    """
    made = _call(url, key, timeout, "POST", f"/{_quoted(webhook_id)}/rotate", {"overlap": overlap})
    note(f"made a new secret; messages are signed with the old one too for {overlap}" if overlap != "now" else "made a new secret")
    data(made["secret"])


@application.command()
def deliveries(webhook_id: WebhookId, url: ServiceUrl = DEFAULT_URL, key: PrivateKey = "", timeout: Timeout = 60, json: Json = False) -> None:
    """List the newest messages.

    Columns: id, event, state, attempts, last and next attempt, status of the last answer, how that began or why there was none.

    Examples:
        agezero webhooks deliveries wh_5d1c4a22e54d
        agezero webhooks deliveries wh_5d1c4a22e54d --json | jq 'select(.state == "failed")'
    """
    found = _call(url, key, timeout, "GET", f"/{_quoted(webhook_id)}/deliveries")["deliveries"]
    if json:
        json_lines(found)
        return
    columns = ("id", "event", "state", "attempts", "last_at", "next_at", "status", "said")
    table(columns, ([_cell(each[column]) for column in columns] for each in found))


def _call(  # noqa: PLR0913, PLR0917 (where, as whom, and what)
    url: str, key: str, timeout_s: float, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    from agezero.cli.client import Client

    with Client(url, required_key(key), time.monotonic() + timeout_s) as client:
        return client.call(method, _PATH + path, body)


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _cell(value: object) -> str:
    return "-" if value in (None, "") else " ".join(str(value).split())[:80]
