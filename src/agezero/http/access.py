"""A line in the log for each request: who, what, how it ended, under which id. Stands round all that is served, and only if it is asked for."""

from __future__ import annotations

import time

import msgspec
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agezero.http.gate import KEY_ID, client_address
from agezero.http.imagekit import PURGE_PATH
from agezero.http.native.purges import PURGE_PREFIX

READS = frozenset({"GET", "HEAD", "OPTIONS"})

_log = structlog.get_logger(__name__)


class _Id(msgspec.Struct, rename="camel"):
    request_id: str


class RequestLog:
    """An ASGI application round another. ``reads``: also what changes nothing."""

    def __init__(self, application: ASGIApp, *, reads: bool) -> None:
        self._application = application
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and tell of it at its end."""
        if scope["type"] != "http" or (scope["method"] in READS and not self._reads):
            await self._application(scope, receive, send)
            return
        began_s, about = time.perf_counter(), dict[str, object]()

        async def watched(message: Message) -> None:
            _notice(about, scope["path"], message)
            await send(message)

        try:
            await self._application(scope, receive, watched)
        finally:
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                address=client_address(scope),
                key=scope.get(KEY_ID, ""),
                took_ms=round((time.perf_counter() - began_s) * 1000, 2),
                **about,
            )


def _notice(about: dict[str, object], path: str, message: Message) -> None:
    """What the response says of itself: status, request id, and the purge that it is about."""
    if message["type"] == "http.response.start":
        headers = dict(message["headers"])
        about["status"] = message["status"]
        about["request_id"] = headers.get(b"x-ik-requestid", b"").decode()
        location = headers.get(b"location", b"").decode()
        purge = location if location.startswith(PURGE_PREFIX) else path if path.startswith((PURGE_PREFIX, PURGE_PATH + "/")) else ""
        if purge:
            about["purge"] = purge.removeprefix(PURGE_PREFIX).removeprefix(PURGE_PATH + "/").partition("/")[0]
    elif path == PURGE_PATH and about.get("status") == 201 and "purge" not in about:
        about["purge"] = msgspec.json.decode(message["body"], type=_Id).request_id
