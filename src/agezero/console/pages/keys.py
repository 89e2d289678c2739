"""The keys: made, rolled, revoked. A key's text is shown in the answer to the form that made it, and nowhere else."""

from __future__ import annotations

import secrets
import time
from typing import Any, cast

import msgspec

from agezero.console.call import Request, Trouble, see_other, trouble
from agezero.console.once import Once
from agezero.http.faults import Fault, Refused
from agezero.http.keys import OVERLAPS_S, KeyCalls, KeyRequest, Overlap, view
from agezero.http.parts import Parts
from agezero.http.reply import Reply
from agezero.keys import NewKey, Permission

DAY_S = 86_400
ENDS = {"": "never", str(DAY_S): "in a day", str(30 * DAY_S): "in 30 days", str(90 * DAY_S): "in 90 days", str(366 * DAY_S): "in a year"}
PERMISSIONS = {
    Permission.READ: "reads what becomes of purges",
    Permission.PURGE: "purges too",
    Permission.ADMIN: "also manages edges, keys and webhooks",
}
SENT = Trouble(200, "This form was sent already.", "", "The key was made then, and is shown only once. If it is lost, revoke it and make another.")


class KeyPages:
    """For admins."""

    def __init__(self, parts: Parts) -> None:
        self._keys = parts.keys
        self._calls = KeyCalls(parts.keys, parts.native.audit)
        self._once = Once()

    async def show(self, request: Request) -> Reply:
        """All that are not revoked."""
        return self._page(request)

    async def create(self, request: Request) -> Reply:
        """A new one, and its text."""
        if not self._once.first(request.field("once")):
            return self._page(request, trouble=SENT)
        try:
            made = await self._calls.make(_asked(request), request.visitor, request.address)
        except Refused as refused:
            return self._page(request, refused.fault.status, trouble=trouble(refused), fields=request.fields)
        return self._page(request, made=made)

    async def roll(self, request: Request) -> Reply:
        """Another one with the same rights, and its text."""
        if request.field("overlap") not in OVERLAPS_S:
            raise Refused(Fault.INVALID_MEMBER, "the overlap is none of those that are offered")
        if not self._once.first(request.field("once")):
            return self._page(request, trouble=SENT)
        try:
            overlap = cast("Overlap", request.field("overlap"))
            made = await self._calls.replace(request.segment("id"), overlap, request.visitor, request.address)
        except Refused as refused:
            return self._page(request, refused.fault.status, trouble=trouble(refused))
        return self._page(request, made=made)

    async def revoke(self, request: Request) -> Reply:
        """From now on nobody is recognised by it."""
        await self._calls.end(request.segment("id"), request.visitor, request.address)
        return see_other("/console/keys")

    def _page(self, request: Request, status: int = 200, made: NewKey | None = None, **more: Any) -> Reply:
        now_s = time.time()
        values = {
            "keys": [view(key, now_s) for key in self._keys.list()],
            "once": secrets.token_urlsafe(16),
            "permissions": PERMISSIONS,
            "ends": ENDS,
            "overlaps": list(OVERLAPS_S),
            "fields": {},
            "trouble": None,
            "own": request.visitor.key.id,
        }
        return request.page("keys.html", status, **{**values, **more, "made": made})


def _asked(request: Request) -> KeyRequest:
    endpoints = [line.strip() for line in request.field("endpoints").splitlines() if line.strip()]
    ends = request.field("ends")
    asked: dict[str, object] = {"name": request.field("name").strip(), "permission": request.field("permission"), "endpoints": endpoints or None}
    try:
        return msgspec.convert({**asked, "expires_in_s": int(ends) if ends in ENDS and ends else None}, KeyRequest)
    except msgspec.ValidationError as error:
        raise Refused(Fault.INVALID_MEMBER, str(error).replace("`", "'")) from None
