"""``GET /v1/audit``: a page of rows, or all of them as JSON lines."""

from __future__ import annotations

import re

import msgspec
from starlette.types import Scope

from agezero import wire
from agezero.audit import Audit, Cursor, Row, Wanted
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Visitor
from agezero.http.native.parameters import Query
from agezero.http.native.streams import Chunks
from agezero.http.reply import Header, Reply
from agezero.journal import text_of

AUDIT_PATH = "/v1/audit"
PAGE_ROWS = 500
FILTERS = ("action", "key", "address")
LINES: tuple[Header, ...] = (
    (b"content-type", b"application/jsonl"),
    (b"cache-control", b"no-store"),
    (b"content-disposition", b'attachment; filename="audit.jsonl"'),
)
_CURSOR = re.compile(r"([0-9]{1,19})-([0-9]{1,19})")
_SIGNED_MAX = 2**63 - 1


class ReadAudit:
    """For keys that administer the service."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def __call__(self, scope: Scope, visitor: Visitor) -> tuple[tuple[Header, ...], Chunks] | Reply:
        """200: newest first."""
        if not visitor.administers:
            raise Refused(Fault.NOT_PERMITTED_AUDIT)
        query = Query(scope, ("limit", "cursor", "format", *FILTERS))
        cursor, wanted, limit = cursor_of(query.text("cursor")), wanted_rows(query), query.limit()
        if query.one_of("format", "json", "jsonl") == "jsonl":
            return LINES, self._lines(cursor, wanted)
        return Reply(200, msgspec.json.encode(await audit_page(self._audit, cursor, limit, wanted)))

    async def _lines(self, cursor: Cursor | None, wanted: Wanted | None) -> Chunks:
        while cursor is not None:
            rows, cursor = await self._audit.page(cursor, PAGE_ROWS, wanted)
            yield b"".join(msgspec.json.encode(_told(row)) + b"\n" for row in rows)


def wanted_rows(query: Query) -> Wanted | None:
    """By the query; None: all."""
    wanted = Wanted(*map(query.word, FILTERS))
    return None if wanted == Wanted() else wanted


async def audit_page(audit: Audit, cursor: Cursor, limit: int, wanted: Wanted | None) -> wire.AuditPage:
    """As the API tells it."""
    rows, after = await audit.page(cursor, limit, wanted)
    return wire.AuditPage(list(map(_told, rows)), None if after is None else f"{after.seq}-{after.row}")


def cursor_of(text: str | None) -> Cursor:
    """Where a page ended. Raises :class:`Refused`."""
    if text is None:
        return Cursor()
    match = _CURSOR.fullmatch(text)
    if match is None or max(int(match[1]), int(match[2])) > _SIGNED_MAX:
        raise Refused(Fault.INVALID_PARAMETER, "the cursor is none that the audit was answered with")
    return Cursor(int(match[1]), int(match[2]))


def _told(row: Row) -> wire.AuditRow:
    return wire.AuditRow(text_of(row.at_ms), row.action, row.key_id, row.address, row.about)
