"""``GET /v1/purges/{id}/evidence``: does every edge show, for every URL of the purge, the ETag or header that the fresh object must have?

A purge proves that nothing old is served from a cache. It can't know whether the *origin* has the new version; this looks. It is asked for when it is
wanted, not when the purge is sent: so it is answered by any process, after any restart, and says of itself when it was seen.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence

import msgspec
from starlette.types import Receive, Scope

from agezero import wire
from agezero.core.selector import Kind
from agezero.fronts import Fronts, Seen
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Visitor
from agezero.http.native.parameters import Query
from agezero.http.native.purges import PURGE_PREFIX, find
from agezero.http.reply import Reply
from agezero.journal import Journal, text_of
from agezero.ports import PurgeRecord

EVIDENCE_SUFFIX = "/evidence"
URLS_MAX = 20
"""Of a purge of more, the first ones are looked at."""
NAME = r"^[A-Za-z0-9!#$%&'*+.^_|~-]{1,64}$"
VALUE_CHARACTERS_MAX = 1024


class ReadEvidence:
    """For whoever may see the purge."""

    def __init__(self, journal: Journal, fronts: Fronts) -> None:
        self._journal = journal
        self._fronts = fronts

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200, met or not; 404 for no purge that this key may see."""
        query = Query(scope, ("header", "value", "wait"))
        header, value, wait_s = _header(query.text("header")), _value(query.text("value")), query.wait_s()
        found = await find(self._journal, scope["path"][len(PURGE_PREFIX) : -len(EVIDENCE_SUFFIX)], visitor)
        if wait_s and isinstance(found, PurgeRecord):
            await self._journal.progress.wait(found.last, wait_s)
        detail = self._journal.detail(found)
        urls = [selector.value for selector in detail.selectors if selector.kind == Kind.URL.value]
        why = _why_not(detail, urls)
        checks = [] if why else await self._checks(urls[:URLS_MAX], header, value)
        met = _all(checks)
        if len(urls) > URLS_MAX:
            met, why = met and None, f"only the first {URLS_MAX} of its {len(urls)} URLs were looked at"
        return Reply(200, msgspec.json.encode(wire.Evidence(detail.id, detail.state, header, value, met, checks, why)))

    async def _checks(self, urls: Sequence[str], header: str, value: str) -> list[wire.Check]:
        edges = [edge.name for edge in self._journal.edges() if edge.state != "removed"]
        return await asyncio.gather(*(self._check(edge, url, header, value) for edge in edges for url in urls))

    async def _check(self, edge: str, url: str, header: str, value: str) -> wire.Check:
        seen = await self._fronts.ask(edge, url)
        at, shown = text_of(time.time_ns() // 1_000_000), seen.headers or {}
        saw = shown.get(header)
        met = None if seen.why else saw is not None and comparable(header, saw) == comparable(header, value)
        return wire.Check(edge, url, at, seen.status, saw, met, shown.get("age", ""), shown.get("cache-status", ""), _said(seen, met))


def comparable(header: str, value: str) -> str:
    """ETags are compared weakly (RFC 9110 §8.8.3.2): a cache that compresses makes a strong one weak."""
    return value.strip().removeprefix("W/") if header == "etag" else value.strip()


def _said(seen: Seen, met: bool | None) -> str:
    if seen.why or met:
        return seen.why
    return "the edge has this from the origin, since the purge: look there"


def _all(checks: Sequence[wire.Check]) -> bool | None:
    met = {check.met for check in checks}
    return False if False in met else True if met == {True} else None


def _why_not(detail: wire.PurgeDetail, urls: Sequence[str]) -> str:
    if detail.state == "pending":
        return "the purge is not complete, so what an edge shows now would say nothing"
    if not detail.retained:
        return "the log keeps no more of the purge than that it is complete"
    return "" if urls else "the purge names no single URL that could be looked at"


def _header(text: str | None) -> str:
    if text is None or not re.fullmatch(NAME, text):
        raise Refused(Fault.INVALID_PARAMETER, "header is the name of a header, such as ETag")
    return text.lower()


def _value(text: str | None) -> str:
    if text is None or len(text) > VALUE_CHARACTERS_MAX:
        raise Refused(Fault.INVALID_PARAMETER, f"value is what the header must show, of at most {VALUE_CHARACTERS_MAX} characters")
    return text
