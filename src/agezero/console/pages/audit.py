"""Who did what, from where, when: by filters, a page at a time, or all of it as JSON lines."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from agezero.console.call import Handler, Request
from agezero.http.native.audit import FILTERS, audit_page, cursor_of, wanted_rows
from agezero.http.native.purges import unknown
from agezero.http.parts import Parts
from agezero.http.reply import Reply
from agezero.ports import LogUnavailable

PAGE = 100
ACTIONS = ("purge", "attempt.", "console.", "edge.", "key.", "webhook.")


def show_audit(parts: Parts) -> Handler:
    """For admins."""

    async def show(request: Request) -> Reply:
        query = request.query("cursor", *FILTERS)
        cursor = query.text("cursor")
        try:
            page = await audit_page(parts.native.audit, cursor_of(cursor), PAGE, wanted_rows(query))
        except LogUnavailable as error:
            raise unknown(error) from None
        filters = {name: query.word(name) for name in FILTERS}
        chosen = {name: value for name, value in filters.items() if value}
        values: dict[str, Any] = {
            "page": page,
            "filters": filters,
            "chosen": chosen,
            "actions": ACTIONS,
            "first": cursor is None,
            "export": urlencode({**chosen, "format": "jsonl"}),
            "more": urlencode({**chosen, "cursor": page.cursor}) if page.cursor else "",
        }
        return request.page("audit.html", **values)

    return show
