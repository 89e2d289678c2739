"""Answers without an end: events (SSE, the HTML standard §9.2) and exports. Each chunk is made when the reader has taken the one before.

An answer ends with the key that it was asked for with: before each chunk it is looked whether that is still valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog
from starlette.types import Receive, Scope, Send

from agezero.feed import Event
from agezero.http.faults import Fault, Refused, problem, retry_after
from agezero.http.gate import KEY_ID, Gate, Visitor, client_address
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.reply import Header, Reply, new_request_id, send_reply

HEARTBEAT_S = 10.0
SEND_S = 30.0
"""A reader that takes nothing for so long is let go; it may come back and resume."""
STREAMS_MAX = 256
"""Most streams open at a time."""
RETRY_MS = 1000
"""When a reader whose stream ended comes back."""

SSE: tuple[Header, ...] = ((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))

Chunks = AsyncIterator[bytes]
Opener = Callable[[Scope, Visitor], Awaitable[tuple[tuple[Header, ...], Chunks] | Reply]]

_log = structlog.get_logger(__name__)


class Stream:
    """A stream as an ASGI application. ``opener`` gives headers and chunks, or a plain reply, or raises :class:`Refused`."""

    open_now = 0

    def __init__(self, name: str, opener: Opener, gate: Gate, limit: RateLimit, metrics: HttpMetrics) -> None:
        self._name = name
        self._opener = opener
        self._gate = gate
        self._limit = limit
        self._metrics = metrics
        self._requests = metrics.requests
        metrics.expect(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing but a broken connection gets out of here."""
        now_s = time.time()
        rate, request_id = self._limit.idle, new_request_id()
        try:
            visitor = self._gate.recognise(scope["headers"], now_s, client_address(scope))
            scope[KEY_ID] = visitor.key.id
            if not self._limit.take(visitor.window):
                self._metrics.rate_limited[self._name] += 1
                raise Refused(Fault.RATE_LIMITED, "", retry_after(1))
            rate = self._limit.headers(visitor.window, now_s)
            opened = await self._opener(scope, visitor)
            if not isinstance(opened, Reply) and Stream.open_now >= STREAMS_MAX:
                raise Refused(Fault.TOO_MANY_STREAMS, "", retry_after(5))
        except Refused as refused:
            opened = problem(refused)
        except Exception:
            _log.exception("request failed", call=self._name, request_id=request_id.decode())
            opened = problem(Refused(Fault.INTERNAL))
        if isinstance(opened, Reply):
            self._requests[self._name, opened.status] += 1
            await send_reply(send, opened, rate, request_id)
            return
        self._requests[self._name, 200] += 1
        headers, chunks = opened
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, (b"x-ik-requestid", request_id), *rate]})
        if scope["method"] != "HEAD":
            await self._pass_on(_while(self._gate.holding(visitor), chunks), receive, send)
        await send({"type": "http.response.body", "body": b""})

    async def _pass_on(self, chunks: Chunks, receive: Receive, send: Send) -> None:
        Stream.open_now += 1
        self._metrics.streams_open += 1
        sending = asyncio.create_task(_send_all(chunks, send))
        leaving = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait([sending, leaving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            Stream.open_now -= 1
            self._metrics.streams_open -= 1
            for task in (sending, leaving):
                task.cancel()
            for result in await asyncio.gather(sending, leaving, return_exceptions=True):
                if isinstance(result, Exception):
                    _log.info("a stream ended early", call=self._name, why=repr(result))


async def _while(holds: Callable[[], bool], chunks: Chunks) -> Chunks:
    async with contextlib.aclosing(chunks) as all_of_them:  # type: ignore[type-var]
        async for chunk in all_of_them:
            if not holds():
                return
            yield chunk


async def _send_all(chunks: Chunks, send: Send) -> None:
    async with contextlib.aclosing(chunks) as all_of_them:  # type: ignore[type-var]
        async for chunk in all_of_them:
            async with asyncio.timeout(SEND_S):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def sse(event: Event) -> bytes:
    """One event as text. Without a name it moves the reader's last event id on, and nothing else."""
    lines = [f"id: {event.id}"] if event.id else []
    if event.name:
        lines += [f"event: {event.name}", f"data: {event.data.decode()}"]
    return ("\n".join(lines or [":"]) + "\n\n").encode()


def begin() -> bytes:
    """What stands before all events."""
    return f"retry: {RETRY_MS}\n\n".encode()
