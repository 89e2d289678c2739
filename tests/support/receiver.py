"""A real HTTP server that is told of events: keeps what it was sent, and answers as it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from support.waiting import wait_for


@dataclass(frozen=True, slots=True)
class Told:
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        return str(json.loads(self.body)["type"])

    @property
    def data(self) -> Any:
        return json.loads(self.body)["data"]

    def verify(self, secret: str) -> None:
        Webhook(secret).verify(self.body, self.headers)


class Receiver(ThreadingHTTPServer):
    """``answers``: the statuses of the next answers; then ``answer``. 0: it hangs until ``go`` is set, then says nothing."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.told: list[Told] = []
        self.answers: list[int] = []
        self.answer = 204
        self.location = ""
        self.go = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"

    def wait(self, count: int, event: str = "") -> list[Told]:
        """At least so many messages."""

        def enough() -> list[Told] | None:
            found = [told for told in list(self.told) if not event or told.type == event]
            return found if len(found) >= count else None

        return wait_for(enough, f"{count} messages {event} (there are {[told.type for told in self.told]})")

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no event for a test."""


class _Handler(BaseHTTPRequestHandler):
    server: Receiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.told.append(Told({name.lower(): value for name, value in self.headers.items()}, body))
        status = self.server.answers.pop(0) if self.server.answers else self.server.answer
        if status == 0:
            self.server.go.wait(60)
            self.close_connection = True
            return
        self.send_response(status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:  # a redirect that is followed would come here
        self.server.told.append(Told({}, b'{"type":"GET"}'))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def running_receiver(port: int = 0) -> Iterator[Receiver]:
    """On a free loopback port."""
    with Receiver(port) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.go.set()
            receiver.shutdown()
            thread.join()
