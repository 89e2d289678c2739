"""All that is served, as one ASGI application.

Starlette routes. In front of it stands a shortcut for ImageKit's two calls, which are nearly all the traffic: they go straight to their
applications; a request for the same path that is not exactly such takes the long way to the same place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

from limits.storage import MemoryStorage
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from agezero.audit import Audit
from agezero.config import Config
from agezero.http.admin import admin
from agezero.http.attempts import Attempts, FailedAttempt, OnFailed
from agezero.http.edges import DRAIN_SUFFIX, EDGE_PREFIX, EDGES_PATH, DrainEdge, ListEdges, RemoveEdge
from agezero.http.faults import Fault, problem
from agezero.http.gate import Gate
from agezero.http.imagekit import PURGE_PATH, STATUS_PREFIX, Call, Handler, Status, Submit
from agezero.http.keys import KEY_PATH, KEYS_PATH, ROLL_PATH, KeyCalls
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.native.routes import Native, native_routes
from agezero.http.openapi import document
from agezero.http.pages import ByMethod, Page, health, metrics_page, readiness
from agezero.http.parts import Mount, Parts
from agezero.http.reply import Reply
from agezero.http.service import Purges
from agezero.http.traced import traced
from agezero.http.webhooks import DELIVERIES_PATH, ROTATE_PATH, TEST_PATH, WEBHOOK_PATH, WEBHOOKS_PATH, WebhookCalls
from agezero.keys import KeyRing

CONSOLE_PATH = "/console"
_STATUS_PATH_CHARACTERS = len(STATUS_PREFIX) + 24  # of a well-formed request id


class Application:
    """The shortcut, then the router."""

    def __init__(self, purge: ASGIApp, status: ASGIApp, router: Router) -> None:
        self._purge = purge
        self._status = status
        self._router = router

    @property
    def served(self) -> frozenset[tuple[str, str]]:
        """Method and path, with parameters in braces, of all that is served; of a part that routes by itself, ``*`` and where it begins."""
        return frozenset(found for route in self._router.routes for found in _served(route))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Pass the request on."""
        return (self.shortcut(scope["method"], scope["path"]) or self._router)(scope, receive, send)

    def shortcut(self, method: str, path: str) -> ASGIApp | None:
        """Who answers one of ImageKit's two calls; it looks at no more of a scope than :func:`agezero.http.rsgi.rsgi` gives it."""
        if len(path) == _STATUS_PATH_CHARACTERS and method == "GET" and path.startswith(STATUS_PREFIX) and "/" not in path[-24:]:
            return self._status
        return self._purge if path == PURGE_PATH and method == "POST" else None


def _served(route: BaseRoute) -> Iterator[tuple[str, str]]:
    if not isinstance(route, Route):
        yield "*", str(getattr(route, "path", route))
        return
    by_method = route.app.methods if isinstance(route.app, ByMethod) else tuple(route.methods or "*")
    yield from ((method, route.path) for method in by_method if method != "HEAD")


def build_application(  # noqa: PLR0913, PLR0917 (the parts)
    config: Config, purges: Purges, keys: KeyRing, metrics: HttpMetrics, native: Native, console: Mount | None = None
) -> Application:
    """Put the HTTP side together. ``console``: what serves ``/console``."""
    attempts = Attempts(config.limits.failed_attempts_per_min, _audited(native.audit), metrics.failed_attempts)
    storage = MemoryStorage()
    purge_limit = RateLimit(storage, "purge", config.limits.purges_per_s)
    status_limit = RateLimit(storage, "status", config.limits.status_per_s)
    submit = Submit(purges, config.served_endpoints, config.wildcards, metrics)
    purge = Call("purge", traced("purge", submit), Gate(keys, purge_limit, attempts), purge_limit, metrics)
    status = Call("status", Status(purges), Gate(keys, status_limit, attempts), status_limit, metrics)
    edges = Call("edges", ListEdges(purges), Gate(keys, status_limit, attempts), status_limit, metrics, problem)
    edge = Call("edge", RemoveEdge(purges, native.audit), Gate(keys, purge_limit, attempts), purge_limit, metrics, problem)
    drain, resume = (
        Call(name, DrainEdge(purges, native.audit, name == "edge-drain"), Gate(keys, purge_limit, attempts), purge_limit, metrics, problem)
        for name in ("edge-drain", "edge-resume")
    )
    missing = Page("other", Fault.NO_SUCH_PATH.reply, status_limit, metrics)
    parts = Parts(config, native, keys, metrics, purge_limit, status_limit, attempts)
    routes = [
        *(mounted(CONSOLE_PATH, console(parts)) if console else ()),
        Route(PURGE_PATH, ByMethod(purge_limit, metrics, {"POST": purge})),
        Route(STATUS_PREFIX + "{requestId}", ByMethod(status_limit, metrics, {"GET": status})),
        Route(EDGES_PATH, ByMethod(status_limit, metrics, {"GET": edges})),
        Route(EDGE_PREFIX + "{name}", ByMethod(purge_limit, metrics, {"DELETE": edge})),
        Route(EDGE_PREFIX + "{name}" + DRAIN_SUFFIX, ByMethod(purge_limit, metrics, {"PUT": drain, "DELETE": resume})),
        *_keys(KeyCalls(keys, native.audit), Gate(keys, status_limit, attempts), status_limit, metrics),
        *_webhooks(WebhookCalls(native.webhooks, native.audit), Gate(keys, status_limit, attempts), status_limit, metrics),
        *native_routes(config, native, keys, metrics, purge_limit, status_limit, attempts),
        *_pages(purges, status_limit, metrics),
    ]
    return Application(purge, status, Router(routes, redirect_slashes=False, default=missing))


def mounted(path: str, application: ASGIApp) -> Iterator[Route]:
    """All that lies at and under ``path``, whatever the method."""
    yield Route(path, application)
    yield Route(path + "/{rest:path}", application)


def _audited(audit: Audit) -> OnFailed:
    def note(attempt: FailedAttempt) -> None:
        if attempt.guess:  # the others have no limit, and would push out what matters
            audit.note("attempt.failed", "", attempt.address, attempt.why)

    return note


def _webhooks(calls: WebhookCalls, gate: Gate, limit: RateLimit, metrics: HttpMetrics) -> Iterator[Route]:
    call = _for_admins(gate, limit, metrics)
    yield Route(WEBHOOKS_PATH, ByMethod(limit, metrics, {"GET": call("webhooks", calls.show), "POST": call("create-webhook", calls.create)}))
    yield Route(WEBHOOK_PATH, ByMethod(limit, metrics, {"DELETE": call("delete-webhook", calls.remove)}))
    yield Route(ROTATE_PATH, ByMethod(limit, metrics, {"POST": call("rotate-webhook", calls.rotate)}))
    yield Route(TEST_PATH, ByMethod(limit, metrics, {"POST": call("test-webhook", calls.test)}))
    yield Route(DELIVERIES_PATH, ByMethod(limit, metrics, {"GET": call("deliveries", calls.deliveries)}))


def _for_admins(gate: Gate, limit: RateLimit, metrics: HttpMetrics) -> Callable[[str, Handler], Call]:
    return lambda name, handler: Call(name, admin(handler), gate, limit, metrics, problem)


def _keys(calls: KeyCalls, gate: Gate, limit: RateLimit, metrics: HttpMetrics) -> Iterator[Route]:
    call = _for_admins(gate, limit, metrics)
    yield Route(KEYS_PATH, ByMethod(limit, metrics, {"GET": call("keys", calls.show), "POST": call("create-key", calls.create)}))
    yield Route(KEY_PATH, ByMethod(limit, metrics, {"DELETE": call("revoke-key", calls.revoke)}))
    yield Route(ROLL_PATH, ByMethod(limit, metrics, {"POST": call("roll-key", calls.roll)}))


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
