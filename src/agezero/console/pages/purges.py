"""The history, and one purge: what it names, how far it is, and by what each edge says so. The latter lives: the server sends what has changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Any, cast
from urllib.parse import urlencode

from starlette.types import Scope

from agezero import wire
from agezero.console.call import Request
from agezero.console.gate import SessionGate
from agezero.console.render import Render
from agezero.console.stream import fragments
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Visitor
from agezero.http.native.events import state_digest, states
from agezero.http.native.parameters import header
from agezero.http.native.purges import LIST, find, sees, unknown
from agezero.http.native.streams import HEARTBEAT_S, SSE, Chunks, begin
from agezero.http.parts import Parts
from agezero.http.reply import Header, Reply
from agezero.journal import InvalidCursor, Wanted
from agezero.ports import LogUnavailable, PurgeRecord, StatusUnknown

PAGE = 50
FILTERS = ("state", "tag", "url", "key", "since")


class PurgesPages:
    """The list and one of them."""

    def __init__(self, parts: Parts) -> None:
        self._journal = parts.native.journal

    async def listing(self, request: Request) -> Reply:
        """Newest first, by filters, a page at a time."""
        query = request.query(*LIST)
        state = cast("wire.State | None", query.one_of("state", "pending", "completed"))
        wanted = Wanted(state, query.text("tag"), query.url(), query.text("key"), query.since_ms())
        try:
            page = await self._journal.page(wanted, sees(request.visitor), PAGE, query.text("cursor"))
        except InvalidCursor:
            raise Refused(Fault.INVALID_PARAMETER, "the cursor is none that this list was answered with") from None
        except (StatusUnknown, LogUnavailable) as error:
            raise unknown(error) from None
        filters = {name: query.text(name) or "" for name in FILTERS}
        set_ones = {name: value for name, value in filters.items() if value}
        more = urlencode({**set_ones, "cursor": page.cursor}) if page.cursor else ""
        return request.page("purges.html", page=page, filters=filters, filtered=bool(set_ones), more=more, first=query.text("cursor") is None)

    async def detail(self, request: Request) -> Reply:
        """As it is now; the browser is told of changes from here on."""
        found = await find(self._journal, request.segment("id"), request.visitor)
        return request.page("purge_detail.html", **shown(self._journal.detail(found)))


class PurgeEvents:
    """What becomes of one purge, as parts of its page."""

    def __init__(self, parts: Parts, render: Render, gate: SessionGate, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._journal = parts.native.journal
        self._render = render
        self._gate = gate
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, visitor: Visitor) -> tuple[tuple[Header, ...], Chunks] | Reply:
        """Until it is complete. Who comes back knows the digest of the last state it was told."""
        found = await find(self._journal, str(scope["path_params"]["id"]), visitor)
        return SSE, self._until_complete(found, scope)

    async def _until_complete(self, found: PurgeRecord | int, scope: Scope) -> Chunks:
        yield begin()
        async for digest, detail in states(self._journal, found, header(scope, b"last-event-id") or "", self._heartbeat_s):
            if not self._gate.holds(scope["headers"], time.time()):
                return
            if detail is None:
                yield b":\n\n"
                continue
            values = shown(detail)
            yield fragments(digest, said=self._render("_said.html", values), progress=self._render("_progress.html", values))
        if self._journal.detail(found).state == "completed":
            yield fragments("", ended="")


def shown(detail: wire.PurgeDetail) -> dict[str, Any]:
    """What the templates of a purge need."""
    edges = detail.edges
    return {
        "purge": detail,
        "tiers": [(tier, list(members)) for tier, members in groupby(edges, lambda edge: edge.tier)],
        "confirmed": _in_state(edges, "confirmed"),
        "pending": _in_state(edges, "pending"),
        "fenced": _in_state(edges, "fenced"),
        "digest": state_digest(detail),
    }


def _in_state(edges: Sequence[wire.EdgeProgress], state: str) -> list[wire.EdgeProgress]:
    return [edge for edge in edges if edge.state == state]
