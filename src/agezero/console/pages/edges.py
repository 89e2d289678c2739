"""The fleet as it is, and as it changes."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.types import Scope

from agezero import wire
from agezero.console.call import Handler, Request, see_other
from agezero.console.gate import SessionGate
from agezero.console.render import Render
from agezero.console.stream import fragments
from agezero.http.edges import remove_edge
from agezero.http.gate import Visitor
from agezero.http.native.streams import HEARTBEAT_S, SSE, Chunks, begin
from agezero.http.parts import Parts
from agezero.http.reply import Header, Reply
from agezero.journal import METHOD, Journal

AT_MOST_EVERY_S = 0.5
"""Under load the fleet changes a thousand times a second; people don't."""
KINDS = ("url", "prefix", "tag", "host", "everything")


def edges_page(parts: Parts) -> Handler:
    """All that were not removed."""

    async def show(request: Request) -> Reply:
        return request.page("edges.html", **fleet(parts.native.journal))

    return show


def remove_page(parts: Parts) -> Handler:
    """For admins: an edge is gone for good, and purges wait for it no longer."""
    control, audit = parts.native.journal.control, parts.native.audit

    async def remove(request: Request) -> Reply:
        await remove_edge(control.remove_edge, audit, request.field("name"), request.visitor, request.address)
        return see_other("/console/edges")

    return remove


class EdgeEvents:
    """The table, whenever it has changed."""

    def __init__(self, parts: Parts, render: Render, gate: SessionGate, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._journal = parts.native.journal
        self._render = render
        self._gate = gate
        self._heartbeat_s = heartbeat_s

    async def __call__(self, scope: Scope, visitor: Visitor) -> tuple[tuple[Header, ...], Chunks]:  # noqa: ARG002 (an Opener)
        """For as long as the session lasts."""
        return SSE, self._changes(scope)

    async def _changes(self, scope: Scope) -> Chunks:
        progress, clock = self._journal.progress, asyncio.get_running_loop()
        told: dict[str, Any] = {}
        yield begin()
        due_s = clock.time() + self._heartbeat_s
        while not progress.closing and self._gate.holds(scope["headers"], time.time()):
            now = fleet(self._journal)
            if now != told:
                yield fragments("", fleet=self._render("_fleet.html", now))
                told, due_s = now, clock.time() + self._heartbeat_s
                await asyncio.sleep(AT_MOST_EVERY_S)
            elif not await progress.change(max(0.0, due_s - clock.time())):
                yield b":\n\n"
                due_s = clock.time() + self._heartbeat_s


def fleet(journal: Journal) -> dict[str, Any]:
    """What the template of the fleet needs."""
    edges = journal.edges()
    return {"edges": edges, "head": journal.control.log.head, "kinds": KINDS, "method": method, "why": why}


def method(edge: wire.Edge) -> str:
    """By what its driver purges."""
    return next((word.removeprefix(METHOD) for word in edge.does if word.startswith(METHOD)), "")


STATES = {
    "fenced": "It bypasses its cache by itself: no purge waits for it, and it applies all of them before it is back.",
    "expiring": "Its lease is over; that it is fenced is being written down.",
    "removed": "It was removed, and counts until its lease is over.",
}


def why(edge: wire.Edge) -> str:
    """Why it is as it is, in a sentence or two."""
    state = STATES.get(edge.state) or ("Applies what it is behind." if edge.lag and not edge.trouble else "")
    return " ".join(filter(None, [f"{edge.trouble}." if edge.trouble and state else edge.trouble, state]))
