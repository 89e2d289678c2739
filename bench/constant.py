"""The least that an ASGI application can do, on the same server and event loop as the service: ``python -m bench.constant HOST:PORT``."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop
from starlette.types import Receive, Scope, Send

from agezero.http.server import HttpServer

_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]}
_BODY = {"type": "http.response.body", "body": b'{"status":"Completed"}'}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """The same answer to everything; a body is read, as the service has to."""
    if scope["method"] == "POST":
        await receive()
    await send(_START)
    await send(_BODY)


async def _serve(host: str, port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with HttpServer(application, host, port, by_rsgi=False):
        await stop.wait()


if __name__ == "__main__":
    given_host, _, given_port = sys.argv[1].rpartition(":")
    uvloop.run(_serve(given_host, int(given_port)))
