"""Granian's own interface (RSGI) under an ASGI application.

Granian speaks ASGI too, but that costs a request a third more of its time. Here an answer that is ready goes out by one plain call
(:meth:`Door.answer`); everything else an ASGI application may do, it may do here as well. Header values that are not ASCII don't get through RSGI.
In a POST such a header is there, but empty (:func:`_unreadable`); in other requests it is missing. Credentials lose nothing by that: they have no
such letters (RFC 9110 §11.4).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

from granian._granian import RSGIHTTPProtocol, RSGIProtocolClosed
from starlette.types import ASGIApp, Message, Scope

BODY_AT_ONCE_MAX = 65_536
"""Bytes; longer bodies, and those of unknown length, come in chunks, so that whoever reads them can stop."""

_ASGI = {"version": "3.0", "spec_version": "2.3"}
_GONE: Message = {"type": "http.disconnect"}
_Headers = tuple[tuple[bytes, bytes], ...]


class Door:
    """One request's way in (:meth:`receive`) and out (calling it: ASGI's ``send``)."""

    __slots__ = ("_begun", "_chunks", "_ended", "_head", "_proto", "_scope")

    def __init__(self, scope: Any, proto: RSGIHTTPProtocol) -> None:
        self._scope = scope
        self._proto = proto
        self._ended = False
        self._chunks: Any = None
        self._head: tuple[int, list[tuple[str, str]]] | None = None
        self._begun: Any = None

    async def receive(self) -> Message:
        """The body, then that the client has gone."""
        if self._ended:
            await self._proto.client_disconnect()
            return _GONE
        try:
            if _is_short(self._scope):
                body = await self._proto()
                self._ended = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await self._chunk()
        except RSGIProtocolClosed:
            self._ended = True
            return _GONE

    async def _chunk(self) -> Message:
        if self._chunks is None:
            self._chunks = self._proto.__aiter__()
        try:
            return {"type": "http.request", "body": bytes(await anext(self._chunks)), "more_body": True}
        except StopAsyncIteration:
            self._ended = True
            return {"type": "http.request", "body": b"", "more_body": False}

    def answer(self, status: int, headers: _Headers, more: _Headers, request_id: bytes, body: bytes) -> None:
        """The whole response. Nearly all have the same few headers, so these are remembered as RSGI wants them."""
        self._proto.response_bytes(status, [*_texts(headers, more), ("x-ik-requestid", request_id.decode("ascii"))], body)

    async def __call__(self, message: Message) -> None:
        """ASGI's ``send``."""
        if message["type"] == "http.response.start":
            self._head = message["status"], _text(tuple(message["headers"]))
            return
        assert self._head is not None, "a response begins with its head"
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._begun is None and not more:
            self._proto.response_bytes(*self._head, body)
            return
        if self._begun is None:
            self._begun = self._proto.response_stream(*self._head)
        if body:
            await self._begun.send_bytes(body)


def rsgi(app: ASGIApp) -> Callable[[Any, RSGIHTTPProtocol], Awaitable[None]]:
    """``app`` as an application for Granian's interface. Where it has a ``shortcut`` for method and path, that one is given a short scope."""
    shortcut: Callable[[str, str], ASGIApp | None] = getattr(app, "shortcut", lambda *_: None)

    def serve(scope: Any, proto: RSGIHTTPProtocol) -> Awaitable[None]:
        door = Door(scope, proto)
        method, path = scope.method, scope.path
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in scope.headers.items()]
        if method == "POST":
            headers += _unreadable(scope.headers, headers)
        host, _, port = scope.client.rpartition(":")
        short = {"type": "http", "method": method, "path": path, "headers": headers, "client": (host, int(port))}
        hot = shortcut(method, path)
        return hot(short, door.receive, door) if hot else app(_whole(short, scope), door.receive, door)

    return serve


def _unreadable(sent: Any, read: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """What Granian names and withholds, as it is not visible ASCII. Without them an Idempotency-Key that is refused would count as none."""
    names = {name for name, _ in read}
    named = (name.encode("latin-1") for name in sent.keys())  # noqa: SIM118 (no dict)
    return ((name, b"") for name in named if name not in names)


def _whole(short: Scope, scope: Any) -> Scope:
    return {
        **short,
        "asgi": _ASGI,
        "http_version": scope.http_version,
        "scheme": scope.scheme,
        "query_string": scope.query_string.encode("latin-1"),
        "root_path": "",
        "server": None,
    }


def _is_short(scope: Any) -> bool:
    """Is it certain that its body is not long? Without a length a request of HTTP/1.1 has none, or is chunked (RFC 9112 §6.3)."""
    length = scope.headers.get("content-length")
    if length is None:
        return scope.http_version == "1.1" and "transfer-encoding" not in scope.headers
    return length.isdigit() and int(length) <= BODY_AT_ONCE_MAX


def _text(headers: _Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


@lru_cache(4096)
def _texts(headers: _Headers, more: _Headers) -> list[tuple[str, str]]:
    return _text((*headers, *more))
