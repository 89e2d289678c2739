"""The demo's origin: every path answers with the current version of the content, and one fetch can be made slow."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CACHE_CONTROL = "public, max-age=3600"


class Origin(ThreadingHTTPServer):
    """Serves on a free loopback port. ``slow()`` holds the next fetch back: it has read its content, but does not answer yet."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.version = 1
        self.hold_next = threading.Event()
        self.held = threading.Event()
        self.release = threading.Event()

    @property
    def url(self) -> str:
        """Scheme and authority."""
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def slow(self) -> Iterator[None]:
        """The next fetch reads the content at once, and answers only when this block ends."""
        self.held.clear()
        self.release.clear()
        self.hold_next.set()
        try:
            yield
        finally:
            self.hold_next.clear()
            self.release.set()


class _Handler(BaseHTTPRequestHandler):
    server: Origin
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the version as it was when the request came in."""
        body = f"version {self.server.version}\n".encode()
        if self.server.hold_next.is_set():
            self.server.hold_next.clear()
            self.server.held.set()
            self.server.release.wait(15)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Cache-Control", CACHE_CONTROL)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The story is told elsewhere."""


@contextmanager
def running_origin() -> Iterator[Origin]:
    """An origin in a thread of its own."""
    with Origin() as origin:
        threading.Thread(target=origin.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield origin
        origin.shutdown()
