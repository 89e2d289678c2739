"""``GET /v1/events`` and ``GET /v1/purges/{id}/events``.

An event of a single purge is all that is known of it, and its id a digest of what may not be missed: the states. So the same id means the same
after a restart, and a reader that comes back is told something only if there is news.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import msgspec
from starlette.types import Scope

from agezero import wire
from agezero.feed import Event, Feed, parse_position
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Visitor
from agezero.http.native.parameters import Query, header
from agezero.http.native.purges import EVENTS_SUFFIX, PURGE_PREFIX, find, sees
from agezero.http.native.streams import HEARTBEAT_S, SSE, Chunks, begin, sse
from agezero.http.reply import Header, Reply
from agezero.journal import Journal
from agezero.ports import PurgeRecord

EVENTS_PATH = "/v1/events"
COALESCE_S = 0.02


class AllEvents:
    """Purges accepted and completed, edges as they change."""

    def __init__(self, journal: Journal, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._journal = journal
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, visitor: Visitor) -> tuple[tuple[Header, ...], Chunks]:
        """From now on, or from the event named by ``Last-Event-ID``."""
        Query(scope, ())
        text = header(scope, b"last-event-id")
        position = parse_position(text) if text else None
        if text and position is None:
            raise Refused(Fault.INVALID_PARAMETER, f"Last-Event-ID is {text!r}; expected the id of an event, or none")
        return SSE, _all(Feed(self._journal, sees(visitor), position, self._heartbeat_s))


class PurgeEvents:
    """One purge, until it is complete."""

    def __init__(self, journal: Journal, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._journal = journal
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, visitor: Visitor) -> tuple[tuple[Header, ...], Chunks] | Reply:
        """204, which ends a reader's coming back, where it knows that the purge is complete."""
        Query(scope, ())
        found = await find(self._journal, scope["path"][len(PURGE_PREFIX) : -len(EVENTS_SUFFIX)], visitor)
        last = header(scope, b"last-event-id") or ""
        detail = self._journal.detail(found)
        if detail.state != "pending" and last == state_digest(detail):
            return Reply(204, b"", ())
        return SSE, self._until_complete(found, last)

    async def _until_complete(self, found: PurgeRecord | int, last: str) -> Chunks:
        yield begin()
        async for digest, detail in states(self._journal, found, last, self._heartbeat_s):
            if detail is None:
                yield sse(Event(""))
            else:
                name = "completed" if detail.state == "completed" else "progress"
                yield sse(Event(digest, name, msgspec.json.encode(detail)))


async def states(journal: Journal, found: PurgeRecord | int, last: str, heartbeat_s: float) -> AsyncIterator[tuple[str, wire.PurgeDetail | None]]:
    """Each state of a purge that differs from ``last``, the digest of the one that is known, until it is complete; None as a sign of life."""
    progress, clock = journal.progress, asyncio.get_running_loop()
    due_s = clock.time() + heartbeat_s
    while not progress.closing:
        detail = journal.detail(found)
        now = state_digest(detail)
        if now != last and await journal.settled(last_seq(found)):
            detail = journal.detail(found)
            now = state_digest(detail)
            yield now, detail
            last, due_s = now, clock.time() + heartbeat_s
        if detail.state == "completed":
            return
        if not await progress.change(max(0.0, due_s - clock.time())):
            yield last, None
            due_s = clock.time() + heartbeat_s
        elif detail.state == "pending" and progress.completed < last_seq(found):
            await asyncio.sleep(COALESCE_S)  # many reports a second make one event


def last_seq(found: PurgeRecord | int) -> int:
    """The seq that has to be complete."""
    return found if isinstance(found, int) else found.last


async def _all(feed: Feed) -> Chunks:
    yield begin()
    async for event in feed.events():
        yield sse(event)


def state_digest(detail: wire.PurgeDetail) -> str:
    """The id of the event that tells of it."""
    states = [detail.state, *(f"{edge.name} {edge.state} {edge.why}" for edge in detail.edges if detail.state == "pending")]
    return hashlib.blake2b("\n".join(states).encode(), digest_size=8).hexdigest()
