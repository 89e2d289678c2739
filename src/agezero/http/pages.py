"""The pages that operate the service: /healthz, /readyz, /metrics, /openapi.json. They need no key: none tells of a purge or a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from agezero.http.faults import Fault
from agezero.http.limiter import RateLimit
from agezero.http.metrics import CONTENT_TYPE, HttpMetrics
from agezero.http.reply import Reply, new_request_id, send_reply
from agezero.http.service import Purges

_log = structlog.get_logger(__name__)


class Health(msgspec.Struct, frozen=True):
    """The process is alive."""

    status: str = "alive"


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """Can purges be accepted and proven? ``reason`` says why not."""

    ready: bool
    reason: str = ""


class Page:
    """A page as an ASGI application. ``limit`` lends its headers; a page is not counted."""

    def __init__(self, name: str, render: Callable[[], Reply], limit: RateLimit, metrics: HttpMetrics) -> None:
        self._name = name
        self._render = render
        self._limit = limit
        self._requests = metrics.requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI)
        """Answer one request; nothing but a broken connection gets out of here."""
        request_id = None
        try:
            reply = self._render()
        except Exception:
            request_id = new_request_id()
            _log.exception("request failed", call=self._name, request_id=request_id.decode())
            reply = Fault.INTERNAL.reply()
        self._requests[self._name, reply.status] += 1
        await send_reply(send, reply, self._limit.idle, request_id)


class ByMethod:
    """One path: its applications by method, and 405 with ``Allow`` for all others. Where there is GET there is HEAD."""

    def __init__(self, limit: RateLimit, metrics: HttpMetrics, applications: Mapping[str, ASGIApp]) -> None:
        self._applications = dict(applications)
        if "GET" in applications:
            self._applications["HEAD"] = applications["GET"]
        self.methods = tuple(self._applications)
        allow = (b"allow", ", ".join(self.methods).encode())
        self._other = Page("other", lambda: Fault.WRONG_METHOD.reply("", allow), limit, metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        await self._applications.get(scope["method"], self._other)(scope, receive, send)


def health() -> Reply:
    """``GET /healthz``."""
    return Reply(200, msgspec.json.encode(Health()))


def readiness(purges: Purges) -> Reply:
    """``GET /readyz``."""
    reason = purges.ready()
    return Reply(200 if reason is None else 503, msgspec.json.encode(Readiness(reason is None, reason or "")))


def metrics_page(metrics: HttpMetrics) -> Reply:
    """``GET /metrics``."""
    return Reply(200, metrics.text(), ((b"content-type", CONTENT_TYPE), (b"cache-control", b"no-store")))
