"""A real HTTP origin whose answers a test scripts: status, headers, body, and where in the answer it waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ssl import SSLContext

WAIT_S = 30


class Gate:
    """A place where the origin stops: ``reached`` once it is there; it goes on when ``open`` is set."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def pass_through(self) -> None:
        self.reached.set()
        self.open.wait(WAIT_S)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the origin saw it."""

    method: str
    target: str
    headers: Message
    body: bytes


@dataclass(slots=True)
class Reply:
    """``before_head`` and ``in_body`` (after half of the body) are where it waits; ``cut``: hang up after half of the body."""

    status: int = 200
    headers: dict[str, str | list[str]] = field(default_factory=lambda: {"Cache-Control": "max-age=3600"})
    body: bytes = b"v1"
    before_head: Gate | None = None
    in_body: Gate | None = None
    cut: bool = False


Script = Callable[[Asked], Reply]


class ScriptedOrigin(ThreadingHTTPServer):
    """Answers ``target`` as ``answer`` said last; anything else with a plain :class:`Reply`."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(address, _Handler)
        self.asked: list[Asked] = []
        self.begun: list[str] = []
        """Targets of the requests whose head has arrived."""
        self._scripts: dict[str, Script] = {}

    @property
    def url(self) -> str:
        return f"http://{self.server_address[0]!s}:{self.server_port}"

    def answer(self, target: str, script: Reply | Script) -> None:
        self._scripts[target] = (lambda _: script) if isinstance(script, Reply) else script

    def reply(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        script = self._scripts.get(asked.target)
        return script(asked) if script else Reply()

    def count(self, target: str) -> int:
        """How often ``target`` was asked for."""
        return sum(asked.target == target for asked in self.asked)

    def last(self, target: str) -> Asked:
        return next(asked for asked in reversed(self.asked) if asked.target == target)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no event for a test."""


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedOrigin
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes; waiting for an ACK in between takes 40 ms

    def handle_one(self) -> None:
        if self.headers.get("Upgrade"):
            self._echo()
            return
        self.server.begun.append(self.path)
        reply = self.server.reply(Asked(self.command, self.path, self.headers, self._body()))
        if reply.before_head:
            reply.before_head.pass_through()
        self._send_head(reply)
        if self.command != "HEAD":
            self._send_body(reply)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = do_AGEZERO = handle_one  # noqa: N815 - names that http.server looks for

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send_head(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            for line in [value] if isinstance(value, str) else value:
                self.send_header(name, line)
        self.end_headers()

    def _send_body(self, reply: Reply) -> None:
        half = len(reply.body) // 2
        self.wfile.write(reply.body[:half])
        if reply.cut:
            self.close_connection = True
            return
        if reply.in_body:
            reply.in_body.pass_through()
        self.wfile.write(reply.body[half:])

    def _echo(self) -> None:
        """A stand-in for a WebSocket: after the switch, every byte comes back."""
        self.server.asked.append(Asked(self.command, self.path, self.headers, b""))
        self.send_response(101)
        self.send_header("Upgrade", self.headers["Upgrade"])
        self.send_header("Connection", "Upgrade")
        self.end_headers()
        while data := self.rfile.read1(1024):
            self.wfile.write(data)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def scripted_origin(tls: SSLContext | None = None, address: tuple[str, int] = ("127.0.0.1", 0)) -> Iterator[ScriptedOrigin]:
    """An origin on a free loopback port, or at ``address``."""
    with ScriptedOrigin(address) as origin:
        if tls:
            origin.socket = tls.wrap_socket(origin.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield origin
        origin.shutdown()
        thread.join()
