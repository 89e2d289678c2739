"""An application sees and says the same through our bridge to Granian's RSGI as through Granian's own ASGI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from agezero.http.rsgi import BODY_AT_ONCE_MAX
from agezero.http.server import HttpServer

SEEN = ("type", "http_version", "method", "scheme", "path", "query_string", "root_path")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Say what was received; in chunks where the path asks for it."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    seen = {name: str(scope[name]) for name in SEEN} | {
        "headers": sorted(map(str, scope["headers"])),
        "client": scope["client"][0],
        "bytes": len(body),
    }
    text = json.dumps(seen).encode()
    await send({"type": "http.response.start", "status": 203, "headers": [(b"x-a", b"1"), (b"x-a", b"2"), (b"content-type", b"text/plain")]})
    for begin in range(0, len(text), 50) if scope["path"] == "/chunks" else ():
        await send({"type": "http.response.body", "body": text[begin : begin + 50], "more_body": True})
    await send({"type": "http.response.body", "body": b"" if scope["path"] == "/chunks" else text})


def chunks() -> Iterator[bytes]:
    yield from (b"one", b"two")


CASES: dict[str, tuple[str, str, bytes | Iterator[bytes] | None]] = {
    "get": ("GET", "/a%20b/%C3%A9?q=%41&z", None),
    "head": ("HEAD", "/", None),
    "short": ("POST", "/", b"x" * 10),
    "long": ("POST", "/", b"x" * (3 * BODY_AT_ONCE_MAX)),
    "chunked": ("POST", "/", chunks()),
    "streamed": ("GET", "/chunks", None),
}


@pytest.mark.parametrize("case", CASES)
def test_both_interfaces_agree(case: str) -> None:
    method, target, body = CASES[case]
    content = b"".join(body) if isinstance(body, Iterator) else body

    async def pieces() -> object:
        for piece in chunks():
            yield piece

    async def ask(by_rsgi: bool) -> tuple[object, ...]:
        async with HttpServer(echo, "127.0.0.1", 0, by_rsgi=by_rsgi) as server, httpx.AsyncClient(headers={"host": "h.example"}) as client:
            sent = pieces() if case == "chunked" else content
            answer = await client.request(method, f"http://127.0.0.1:{server.port}{target}", content=sent)  # type: ignore[arg-type]
            headers = [(name, value) for name, value in answer.headers.multi_items() if name not in {"date", "transfer-encoding"}]
            return answer.status_code, sorted(headers), answer.text

    async def both() -> tuple[object, object]:
        return await ask(True), await ask(False)

    ours, granian = asyncio.run(both())
    assert ours == granian


def test_a_client_that_leaves_is_noticed_in_the_body_and_after_it() -> None:
    """It leaves once its request has begun: a server need not begin one whose client has left."""
    heard: list[list[str]] = []
    begun = asyncio.Event()

    async def listen(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 (ASGI)
        begun.set()
        kinds = [""]
        while kinds[-1] != "http.disconnect":
            kinds.append((await receive())["type"])
        heard.append(kinds[1:])

    async def leave(port: int, request: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        await writer.drain()
        await begun.wait()
        begun.clear()
        writer.close()

    async def story() -> None:
        async with HttpServer(listen, "127.0.0.1", 0) as server, asyncio.timeout(20):
            for request in (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"):
                before = len(heard)
                await leave(server.port, request)
                while len(heard) == before:  # noqa: ASYNC110 - the server has no event for it
                    await asyncio.sleep(0.01)

    asyncio.run(story())
    assert heard == [["http.disconnect"], ["http.request", "http.disconnect"]]
