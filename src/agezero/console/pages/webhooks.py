"""Webhooks: who is told what, a test of it, and what became of the latest messages."""

from __future__ import annotations

import secrets
from typing import Any, cast

import msgspec

from agezero.console.call import Request, Trouble, see_other, trouble
from agezero.console.once import Once
from agezero.events import EventKind
from agezero.http.faults import Fault, Refused
from agezero.http.keys import OVERLAPS_S, Overlap
from agezero.http.parts import Parts
from agezero.http.reply import Reply
from agezero.http.webhooks import WebhookCalls, WebhookRequest
from agezero.webhooks.store import Delivery

SHOWN = 10
EVENTS = {
    EventKind.PURGE_COMPLETED: "a purge is complete",
    EventKind.PURGE_BLOCKED: "a purge has been pending for long",
    EventKind.EDGE_FENCED: "an edge bypasses its cache",
    EventKind.EDGE_UNFENCED: "an edge uses its cache again",
}
SENT = Trouble(200, "This form was sent already.", "", "The secret was shown then, only once. If it is lost, rotate it.")


class WebhookPages:
    """For admins."""

    def __init__(self, parts: Parts) -> None:
        self._webhooks = parts.native.webhooks
        self._calls = WebhookCalls(parts.native.webhooks, parts.native.audit)
        self._once = Once()

    async def show(self, request: Request) -> Reply:
        """All of them."""
        return await self._page(request)

    async def create(self, request: Request) -> Reply:
        """A new one, and its secret."""
        if not self._once.first(request.field("once")):
            return await self._page(request, trouble=SENT)
        try:
            asked = {"url": request.field("url").strip(), "events": request.fields.get("events", [])}
            made = await self._calls.make(msgspec.convert(asked, WebhookRequest), request.visitor, request.address)
        except msgspec.ValidationError as error:
            refused = Refused(Fault.INVALID_MEMBER, str(error).replace("`", "'"))
            return await self._page(request, 400, trouble=trouble(refused), fields=request.fields)
        except Refused as refused:
            return await self._page(request, refused.fault.status, trouble=trouble(refused), fields=request.fields)
        return await self._page(request, secret=made.secrets[0].text, about=made.id)

    async def rotate(self, request: Request) -> Reply:
        """Its new secret."""
        if request.field("overlap") not in OVERLAPS_S:
            raise Refused(Fault.INVALID_MEMBER, "the overlap is none of those that are offered")
        if not self._once.first(request.field("once")):
            return await self._page(request, trouble=SENT)
        webhook_id = request.segment("id")
        secret = await self._calls.replace(webhook_id, cast("Overlap", request.field("overlap")), request.visitor, request.address)
        return await self._page(request, secret=secret, about=webhook_id)

    async def test(self, request: Request) -> Reply:
        """What came of a message that is sent now; alone, where the page can put it in place."""
        sent = await self._calls.try_out(request.segment("id"))
        if request.partial:
            return request.page("_deliveries.html", deliveries=await self._deliveries(sent.webhook), tested=sent)
        return await self._page(request, tested=sent)

    async def remove(self, request: Request) -> Reply:
        """It is told nothing any more."""
        await self._calls.end(request.segment("id"), request.visitor, request.address)
        return see_other("/console/webhooks")

    async def _deliveries(self, webhook_id: str) -> list[Delivery]:
        return await self._webhooks.deliveries(webhook_id, SHOWN) or []

    async def _page(self, request: Request, status: int = 200, **more: Any) -> Reply:
        webhooks = [(webhook, await self._deliveries(webhook.id)) for webhook in self._webhooks.store.webhooks.values()]
        values = {
            "webhooks": webhooks,
            "events": EVENTS,
            "overlaps": list(OVERLAPS_S),
            "once": secrets.token_urlsafe(16),
            "fields": {},
            "trouble": None,
            "secret": "",
            "about": "",
            "tested": None,
        }
        return request.page("webhooks.html", status, **{**values, **more})
