"""The edges: ``GET /v1/edges`` lists them, ``DELETE /v1/edges/{name}`` says that one is gone for good, ``…/drain`` takes one out of service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import unquote

import msgspec
from starlette.types import Receive, Scope

from agezero.audit import Audit
from agezero.control import EdgeView
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Visitor, client_address
from agezero.http.reply import Reply
from agezero.http.service import Purges

EDGES_PATH = "/v1/edges"
EDGE_PREFIX = EDGES_PATH + "/"
DRAIN_SUFFIX = "/drain"


class Edges(msgspec.Struct, frozen=True):
    """All edges, by tier and name."""

    edges: Sequence[EdgeView]


class ListEdges:
    """Any key may look."""

    def __init__(self, purges: Purges) -> None:
        self._purges = purges

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200."""
        return Reply(200, msgspec.json.encode(Edges(self._purges.edges())))


class RemoveEdge:
    """Needs an admin's key: without the edge, purges complete."""

    def __init__(self, purges: Purges, audit: Audit) -> None:
        self._purges = purges
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """204; 404 where there is no such edge."""
        if not visitor.administers:
            raise Refused(Fault.NOT_ADMIN)
        await remove_edge(self._purges.remove_edge, self._audit, unquote(scope["path"][len(EDGE_PREFIX) :]), visitor, client_address(scope))
        return Reply(204, b"", ())


class DrainEdge:
    """Needs an admin's key. ``drained``: out of service, or back."""

    def __init__(self, purges: Purges, audit: Audit, drained: bool) -> None:
        self._purges = purges
        self._audit = audit
        self._drained = drained

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """204; 404 where there is no such edge."""
        if not visitor.administers:
            raise Refused(Fault.NOT_ADMIN)
        name = unquote(scope["path"][len(EDGE_PREFIX) : -len(DRAIN_SUFFIX)])
        if not await self._purges.drain_edge(name, self._drained):
            raise Refused(Fault.NO_SUCH_EDGE)
        self._audit.note("edge.drain" if self._drained else "edge.resume", visitor.key.id, client_address(scope), name)
        return Reply(204, b"", ())


async def remove_edge(remove: Callable[[str], Awaitable[bool]], audit: Audit, name: str, visitor: Visitor, address: str) -> None:
    """It is gone for good. Raises :class:`Refused`."""
    if not await remove(name):
        raise Refused(Fault.NO_SUCH_EDGE)
    audit.note("edge.remove", visitor.key.id, address, name)
