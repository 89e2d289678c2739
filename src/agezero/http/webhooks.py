"""``/v1/webhooks``: admins make, list, test, rotate and delete webhooks, and see what became of the messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from starlette.types import Receive, Scope

from agezero.audit import Audit
from agezero.events import EventKind
from agezero.http.admin import body_of, segment
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Visitor, client_address
from agezero.http.keys import OVERLAPS_S, Overlap, RollRequest
from agezero.http.reply import JSON, Reply
from agezero.webhooks.messages import text_of
from agezero.webhooks.service import Webhooks as Service
from agezero.webhooks.store import Delivery, Webhook
from agezero.webhooks.targets import URL_CHARACTERS_MAX, TargetRefused
from agezero.wire import Time

WEBHOOKS_PATH = "/v1/webhooks"
WEBHOOK_PATH = WEBHOOKS_PATH + "/{webhookId}"
ROTATE_PATH = WEBHOOK_PATH + "/rotate"
TEST_PATH = WEBHOOK_PATH + "/test"
DELIVERIES_PATH = WEBHOOK_PATH + "/deliveries"
DELIVERIES_SHOWN = 50


class WebhookRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who is to be told what."""

    url: Annotated[str, msgspec.Meta(min_length=1, max_length=URL_CHARACTERS_MAX, description="An http or https URL.")]
    events: Annotated[list[EventKind], msgspec.Meta(min_length=1, max_length=len(EventKind), description="What it is told.")]


class WebhookView(msgspec.Struct, frozen=True):
    """A webhook. ``stopped``: why it is told nothing any more; empty while it is."""

    id: str
    url: str
    events: Sequence[str]
    created_at: Time
    stopped: str


class WebhookList(msgspec.Struct, frozen=True):
    """All of them, oldest first."""

    webhooks: Sequence[WebhookView]


class MadeWebhook(msgspec.Struct, frozen=True):
    """A new webhook. ``secret`` verifies its messages; it is shown only here."""

    secret: str
    webhook: WebhookView


class NewSecret(msgspec.Struct, frozen=True):
    """The secret that verifies from now on; it is shown only here."""

    secret: str


class DeliveryView(msgspec.Struct, frozen=True):
    """A message. ``status``: of the last answer, 0 without one; ``said``: how that began, or why there was none."""

    id: str
    event: str
    state: Literal["pending", "delivered", "failed"]
    created_at: Time
    attempts: int
    last_at: Time | None
    next_at: Time | None
    status: int
    said: str


class Deliveries(msgspec.Struct, frozen=True):
    """The newest first."""

    deliveries: Sequence[DeliveryView]


class WebhookCalls:
    """The handlers."""

    def __init__(self, webhooks: Service, audit: Audit) -> None:
        self._webhooks = webhooks
        self._audit = audit

    async def show(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200."""
        return _reply(200, WebhookList(list(map(_view, self._webhooks.store.webhooks.values()))))

    async def create(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:
        """201 with the secret."""
        made = await self.make(await body_of(receive, WebhookRequest), visitor, client_address(scope))
        location = (b"location", f"{WEBHOOKS_PATH}/{made.id}".encode())
        return Reply(201, msgspec.json.encode(MadeWebhook(made.secrets[0].text, _view(made))), (*JSON, location))

    async def remove(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """204; what had to be told to it is forgotten."""
        await self.end(segment(scope, "webhookId"), visitor, client_address(scope))
        return Reply(204, b"", ())

    async def rotate(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:
        """200 with the new secret."""
        webhook_id, asked = segment(scope, "webhookId"), await body_of(receive, RollRequest)
        return _reply(200, NewSecret(await self.replace(webhook_id, asked.overlap, visitor, client_address(scope))))

    async def test(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200 with what came of a message that is sent now, once."""
        return _reply(200, _delivery(await self.try_out(segment(scope, "webhookId"))))

    async def deliveries(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200."""
        found = await self._webhooks.deliveries(segment(scope, "webhookId"), DELIVERIES_SHOWN)
        if found is None:
            raise Refused(Fault.NO_SUCH_WEBHOOK)
        return _reply(200, Deliveries(list(map(_delivery, found))))

    # What they do, for whoever asks: the API or the console

    async def make(self, asked: WebhookRequest, visitor: Visitor, address: str) -> Webhook:
        """A new webhook. Raises :class:`Refused`."""
        try:
            made = await self._webhooks.create(asked.url, list(dict.fromkeys(asked.events)))
        except TargetRefused as refusal:
            raise Refused(Fault.TARGET_REFUSED, str(refusal)) from None
        if made is None:
            raise Refused(Fault.TOO_MANY_WEBHOOKS)
        self._audit.note("webhook.create", visitor.key.id, address, f"{made.id} {made.url}")
        return made

    async def end(self, webhook_id: str, visitor: Visitor, address: str) -> None:
        """Delete it. Raises :class:`Refused`."""
        if not await self._webhooks.remove(webhook_id):
            raise Refused(Fault.NO_SUCH_WEBHOOK)
        self._audit.note("webhook.delete", visitor.key.id, address, webhook_id)

    async def replace(self, webhook_id: str, overlap: Overlap, visitor: Visitor, address: str) -> str:
        """Its new secret. Raises :class:`Refused`."""
        secret = await self._webhooks.rotate(webhook_id, OVERLAPS_S[overlap])
        if secret is None:
            raise Refused(Fault.NO_SUCH_WEBHOOK)
        self._audit.note("webhook.rotate", visitor.key.id, address, f"{webhook_id}, overlap {overlap}")
        return secret.text

    async def try_out(self, webhook_id: str) -> Delivery:
        """What came of a message that is sent now, once. Raises :class:`Refused`."""
        sent = await self._webhooks.test(webhook_id)
        if sent is None:
            raise Refused(Fault.NO_SUCH_WEBHOOK)
        return sent


def _reply(status: int, body: msgspec.Struct) -> Reply:
    return Reply(status, msgspec.json.encode(body))


def _view(webhook: Webhook) -> WebhookView:
    return WebhookView(webhook.id, webhook.url, webhook.events, text_of(webhook.created_ms), webhook.stopped)


def _delivery(sent: Delivery) -> DeliveryView:
    state: Literal["pending", "delivered", "failed"] = sent.state  # type: ignore[assignment] # one of these
    last, following = (None if ms is None else text_of(ms) for ms in (sent.last_ms, sent.next_ms))
    return DeliveryView(sent.id, sent.event, state, text_of(sent.created_ms), sent.attempts, last, following, sent.status, sent.said)
