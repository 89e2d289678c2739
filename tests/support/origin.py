"""A real HTTP origin whose content changes when a test says so, and that counts what it is asked."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Origin(ThreadingHTTPServer):
    """Answers every GET and HEAD with ``<content> <target>``, cacheable for an hour."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = "v1"
        self.etag = ""
        """Without quotes; empty: it has none."""
        self.fetches: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """Scheme and authority, no trailing slash."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no event for a test."""


class _Handler(BaseHTTPRequestHandler):
    server: Origin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.fetches[self.path] += 1
        body = f"{self.server.content} {self.path}".encode()
        self.send_response(200)
        self.send_header("Cache-Control", "public, max-age=3600")
        if self.server.etag:
            self.send_header("ETag", f'"{self.server.etag}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 - the name http.server looks for

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def running_origin() -> Iterator[Origin]:
    """An origin on a free loopback port."""
    with Origin() as origin:
        thread = threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield origin
        origin.shutdown()
        thread.join()
