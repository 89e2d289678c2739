"""A real OTLP/HTTP receiver: takes what an OpenTelemetry collector would take, and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from support.waiting import wait_for


@dataclass(frozen=True, slots=True)
class Span:
    """Times in nanoseconds. ``service``: which the resource names."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    begins: int
    ends: int
    kind: int
    failed: bool
    attributes: dict[str, str | int]


class Collector(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Span] = []
        self.raw = b""
        """All that was sent, for what must not be in it."""
        self.paths: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, purge: str, *names: str) -> dict[str, Span]:
        """The newest span of each name in the trace of this purge, once all of these are there."""

        def all_of_them() -> dict[str, Span] | None:
            spans = list(self.spans)
            traces = {span.trace for span in spans if span.attributes.get("agezero.purge.id") == purge}
            found = {span.name: span for span in spans if span.trace in traces}
            return found if found.keys() >= set(names) else None

        return wait_for(all_of_them, f"spans {names} (there are {[span.name for span in self.spans]})")


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest.FromString(body)
        self.server.paths.add(self.path)
        self.server.raw += body
        for resource in request.resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    attributes = {each.key: each.value.string_value or each.value.int_value for each in span.attributes}
                    ids = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex())
                    times = (span.start_time_unix_nano, span.end_time_unix_nano)
                    self.server.spans.append(
                        Span(about["service.name"], span.name, *ids, *times, span.kind, span.status.code == 2, attributes),
                    )
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@contextmanager
def running_collector() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()
