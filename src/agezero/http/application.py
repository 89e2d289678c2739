"""All that is served, as one ASGI application.

Starlette routes. In front of it stands a shortcut for ImageKit's two calls, which are nearly all the traffic: they go straight to their
applications; a request for the same path that is not exactly such takes the long way to the same place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from limits.storage import MemoryStorage
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from agezero.config import Config
from agezero.http.edges import EDGE_PREFIX, EDGES_PATH, ListEdges, RemoveEdge
from agezero.http.faults import Fault, problem
from agezero.http.gate import Gate
from agezero.http.imagekit import PURGE_PATH, STATUS_PREFIX, Call, Status, Submit
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.native.routes import Native, native_routes
from agezero.http.openapi import document
from agezero.http.pages import ByMethod, Page, health, metrics_page, readiness
from agezero.http.reply import Reply
from agezero.http.service import Purges
from agezero.keys import KeyStore

_STATUS_PATH_CHARACTERS = len(STATUS_PREFIX) + 24  # of a well-formed request id


class Application:
    """The shortcut, then the router."""

    def __init__(self, purge: ASGIApp, status: ASGIApp, router: ASGIApp) -> None:
        self._purge = purge
        self._status = status
        self._router = router

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on."""
        path = scope["path"]
        if len(path) == _STATUS_PATH_CHARACTERS and scope["method"] == "GET" and path.startswith(STATUS_PREFIX) and "/" not in path[-24:]:
            return self._status(scope, receive, send)
        if path == PURGE_PATH and scope["method"] == "POST":
            return self._purge(scope, receive, send)
        return self._router(scope, receive, send)


def build_application(config: Config, purges: Purges, keys: KeyStore, metrics: HttpMetrics, native: Native) -> Application:
    """Put the HTTP side together."""
    storage = MemoryStorage()
    purge_limit = RateLimit(storage, "purge", config.limits.purges_per_s)
    status_limit = RateLimit(storage, "status", config.limits.status_per_s)
    submit = Submit(purges, config.served_endpoints, config.wildcards, metrics)
    purge = Call("purge", submit, Gate(keys, purge_limit), purge_limit, metrics)
    status = Call("status", Status(purges), Gate(keys, status_limit), status_limit, metrics)
    edges = Call("edges", ListEdges(purges), Gate(keys, status_limit), status_limit, metrics, problem)
    edge = Call("edge", RemoveEdge(purges, native.audit), Gate(keys, purge_limit), purge_limit, metrics, problem)
    missing = Page("other", Fault.NO_SUCH_PATH.reply, status_limit, metrics)
    routes = [
        Route(PURGE_PATH, ByMethod(purge_limit, metrics, {"POST": purge})),
        Route(STATUS_PREFIX + "{requestId}", ByMethod(status_limit, metrics, {"GET": status})),
        Route(EDGES_PATH, ByMethod(status_limit, metrics, {"GET": edges})),
        Route(EDGE_PREFIX + "{name}", ByMethod(purge_limit, metrics, {"DELETE": edge})),
        *native_routes(config, native, keys, metrics, purge_limit, status_limit),
        *_pages(purges, status_limit, metrics),
    ]
    return Application(purge, status, Router(routes, redirect_slashes=False, default=missing))


def _pages(purges: Purges, limit: RateLimit, metrics: HttpMetrics) -> Iterator[Route]:
    openapi = Reply(200, document())
    pages: dict[str, Callable[[], Reply]] = {
        "healthz": health,
        "readyz": lambda: readiness(purges),
        "metrics": lambda: metrics_page(metrics),
        "openapi.json": lambda: openapi,
    }
    for name, render in pages.items():
        yield Route(f"/{name}", ByMethod(limit, metrics, {"GET": Page(name, render, limit, metrics)}))
