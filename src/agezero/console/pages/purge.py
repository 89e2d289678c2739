"""The form to purge. Before anything is sent it shows what it understood, by a dry run; what is sent is what was shown, or it is shown again.

Three guards: a digest of what was shown comes back with the form, so that nobody sends what they have not seen; a form sends one purge, however
often it is sent (an idempotency key); and everything has to be said twice.
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import Any

import msgspec

from agezero.console.call import Request, Trouble, see_other, trouble
from agezero.http.faults import Fault, Refused, retry_after
from agezero.http.native.purges import NativePurge, Plan, Submit
from agezero.http.parts import Parts
from agezero.http.reply import Reply

KINDS = {"urls": "URLs", "prefixes": "Prefixes", "tags": "Tags", "hosts": "Hosts", "assets": "Assets", "everything": "Everything"}
EVERYTHING = "everything"
_HINTS = {
    "urls": "One URL a line, with its query. All variants are purged. A * at the end takes all that begins so.",
    "prefixes": "One a line. All URLs that begin so are purged.",
    "tags": "One tag a line, as the origin gave them in Surrogate-Key or Cache-Tag.",
    "hosts": "One host a line. All that is cached of it is purged.",
    "assets": "One file a line. It is purged with all that was made of it, ?tr=… and /tr:…/.",
    "everything": "All that any edge has stored. The origin will feel it.",
}
FIELDS = ("kind", "text", "mode", "note", "once", "seen", "sure")


class PurgePages:
    """The form, what it means, and sending it."""

    def __init__(self, parts: Parts) -> None:
        self._journal = parts.native.journal
        self._submit = Submit(self._journal, parts.config.served_endpoints, parts.config.wildcards, parts.metrics)
        self._endpoints = parts.config.served_endpoints
        self._limit = parts.purge_limit

    async def show(self, request: Request) -> Reply:
        """The form; who may only read sees what there is to read."""
        if not request.visitor.key.may_purge():
            return see_other("/console/purges")
        return self._page(request)

    async def preview(self, request: Request) -> Reply:
        """What would be sent."""
        values = self._understood(request)
        return request.page("_understood.html" if request.partial else "purge.html", **values)

    async def send(self, request: Request) -> Reply:
        """Send it, and go and watch; or show it again, where it is not what was shown."""
        values = self._understood(request)
        plan = values["plan"]
        if not isinstance(plan, Plan) or not values["agreed"]:
            return request.page("purge.html", 422 if values["trouble"] else 200, **{**values, "unsent": True})
        if not self._limit.take(self._limit.window(request.visitor.key.id)):  # the same count as the API's
            raise Refused(Fault.RATE_LIMITED, "", retry_after(1))
        again = sha256(f"{request.field('once')} {values['seen']}".encode()).hexdigest()
        try:
            request_id, _ = await self._submit.accept(plan, request.visitor, request.address, again)
        except Refused as refused:
            return request.page("purge.html", refused.fault.status, **{**values, "trouble": trouble(refused)})
        return see_other(f"/console/purges/{request_id}")

    def _page(self, request: Request) -> Reply:
        return request.page("purge.html", **self._values(request))

    def _values(self, request: Request) -> dict[str, Any]:
        kind = request.field("kind")
        fields = {name: request.field(name) for name in FIELDS}
        endpoints = self._endpoints if request.visitor.endpoints is None else request.visitor.endpoints
        return {
            "kinds": KINDS,
            "hints": _HINTS,
            "kind": kind if kind in KINDS else "urls",
            "fields": fields,
            "once": fields["once"][:64] or secrets.token_urlsafe(16),
            "endpoints": endpoints,
            "example": f"https://{next(iter(endpoints), 'cdn.example.com/')}photos/cat.jpg",
            "edges": self._journal.edges(),
            "plan": None,
            "seen": "",
            "agreed": False,
            "unsent": False,
            "trouble": None,
        }

    def _understood(self, request: Request) -> dict[str, Any]:
        """The form's values with what they mean. ``agreed``: it is what was shown, and everything was said twice."""
        values = self._values(request)
        kind = str(values["kind"])
        lines = [line.strip() for line in request.field("text").splitlines() if line.strip()]
        if kind != EVERYTHING and not lines:
            return values
        try:
            plan = self._submit.plan(_asked(kind, lines, request), request.visitor)
        except Refused as refused:
            return {**values, "trouble": _in_lines(trouble(refused), lines)}
        seen = _digest(plan)
        agreed = request.field("seen") == seen and (kind != EVERYTHING or request.field("sure") == "yes")
        return {**values, "plan": plan, "seen": seen, "agreed": agreed}


def _asked(kind: str, lines: list[str], request: Request) -> NativePurge:
    what: dict[str, Any] = {"everything": True} if kind == EVERYTHING else {kind: lines}
    mode = "soft" if request.field("mode") == "soft" else "hard"
    try:
        return msgspec.convert({**what, "mode": mode, "note": request.field("note").strip()}, NativePurge)
    except msgspec.ValidationError as error:
        raise Refused(Fault.INVALID_MEMBER, str(error).replace("`", "'")) from None


def _in_lines(told: Trouble, lines: list[str]) -> Trouble:
    """Each error with the line that it is about, counted from 1, as an editor does."""

    def where(place: str) -> str:
        _, _, index = place.partition("/")
        return f"Line {int(index) + 1}, {lines[int(index)]}" if index.isdigit() and int(index) < len(lines) else ""

    return told._replace(errors=[msgspec.structs.replace(each, where=where(each.where)) for each in told.errors])


def _digest(plan: Plan) -> str:
    return sha256(f"{plan.asked.mode} {plan.selectors} {plan.warnings}".encode()).hexdigest()[:32]
