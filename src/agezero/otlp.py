"""Traces by OpenTelemetry, sent over OTLP/HTTP. The only module that imports it; the extra ``agezero[otel]`` installs it.

Spans wait in a bounded queue and are sent by a thread of the library: what does not fit is dropped, and no purge ever waits for a collector.
The library's own variables (``OTEL_EXPORTER_OTLP_HEADERS``, ``OTEL_TRACES_SAMPLER``, ``OTEL_RESOURCE_ATTRIBUTES`` and so on) hold.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agezero import __version__
from agezero.core.purge import Purge
from agezero.tracing import PARENT

TRACES_PATH = "/v1/traces"
PENDING_MAX = 10_000
"""Traced purges that are followed at a time; of the oldest beyond, no more is told."""
FLUSH_S = 2.0
"""How long the end of the service waits for the last spans to be sent."""
_W3C = TraceContextTextMapPropagator()


@dataclass(slots=True)
class _Pending:
    seq: int
    parent: str
    at_ns: int


class _Accepting:
    """See :class:`agezero.tracing.Accepting`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(self, status: int) -> None:
        """See :class:`agezero.tracing.Accepting`. Of a client's mistakes the service is not to blame (OpenTelemetry's conventions for HTTP)."""
        self._span.set_attribute("http.response.status_code", status)
        if status >= 500:
            self._span.set_status(Status(StatusCode.ERROR))


class OtlpTracer:
    """A :class:`agezero.tracing.Tracer`. ``endpoint``: of the collector, without ``/v1/traces``; empty: what the environment says."""

    def __init__(self, endpoint: str = "") -> None:
        own = Resource({SERVICE_NAME: "agezero", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._exporter = OTLPSpanExporter(endpoint.rstrip("/") + TRACES_PATH) if endpoint else OTLPSpanExporter()
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer("agezero", __version__)
        self._pending: deque[_Pending] = deque(maxlen=PENDING_MAX)
        self._applied: dict[str, deque[_Pending]] = {}
        self._completed = 0

    @contextmanager
    def accepting(self, call: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[_Accepting]:
        """See :class:`agezero.tracing.Tracer`."""
        carrier = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in (b"traceparent", b"tracestate")}
        attributes = {"http.request.method": "POST", "http.route": path, "agezero.call": call}
        context = _W3C.extract(carrier)
        # A refusal is an exception here, and no failure.
        with self._tracer.start_as_current_span(
            "accept", context, SpanKind.SERVER, attributes, record_exception=False, set_status_on_exception=False
        ) as span:
            token = PARENT.set(_parent(span))
            try:
                yield _Accepting(span)
            finally:
                PARENT.reset(token)

    @contextmanager
    def appending(self) -> Iterator[None]:
        """See :class:`agezero.tracing.Tracer`."""
        if not PARENT.get():
            yield
            return
        with self._tracer.start_as_current_span("log append", kind=SpanKind.PRODUCER):
            yield

    def durable(self, seq: int, purge_id: str) -> None:
        """See :class:`agezero.tracing.Tracer`."""
        parent = PARENT.get()
        if parent:
            trace.get_current_span().set_attributes({"agezero.purge.id": purge_id, "agezero.seq": seq})
            self._pending.append(_Pending(seq, parent, time.time_ns()))
            self.complete(self._completed)

    @contextmanager
    def applying(self, edge: str, purges: Sequence[Purge]) -> Iterator[None]:
        """See :class:`agezero.tracing.Tracer`."""
        began_ns, failure = time.time_ns(), ""
        try:
            yield
        except BaseException as error:
            failure = str(error) or type(error).__name__
            raise
        finally:
            for purge in purges:
                if purge.trace:
                    self._span("apply", _Pending(purge.seq, purge.trace, began_ns), {"agezero.edge": edge, "agezero.batch": len(purges)}, failure)
                    if not failure:
                        self._of(edge).append(_Pending(purge.seq, purge.trace, time.time_ns()))

    @contextmanager
    def confirming(self, edge: str, watermark: int) -> Iterator[None]:
        """See :class:`agezero.tracing.Tracer`."""
        yield
        applied = self._of(edge)
        for _ in range(len(applied)):
            one = applied.popleft()
            if one.seq <= watermark:
                self._span("confirm", one, {"agezero.edge": edge, "agezero.watermark": watermark})
            else:
                applied.append(one)

    def complete(self, seq: int) -> None:
        """See :class:`agezero.tracing.Tracer`."""
        self._completed = max(self._completed, seq)
        while self._pending and self._pending[0].seq <= self._completed:
            self._span("complete", self._pending.popleft(), {})

    def close(self) -> None:
        """Send what waits, for a moment at most; the library itself would try for longer than people wait for an end. Nothing is traced any more."""
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)
        if ending.is_alive():
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it would complain of what is on purpose
            self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _of(self, edge: str) -> deque[_Pending]:
        return self._applied.setdefault(edge, deque(maxlen=PENDING_MAX))

    def _span(self, name: str, one: _Pending, attributes: dict[str, str | int], failure: str = "") -> None:
        """A span from ``one.at_ns`` to now, under the request that asked for the purge."""
        kind = SpanKind.CONSUMER if name == "apply" else SpanKind.INTERNAL
        span = self._tracer.start_span(name, _context(one.parent), kind, {"agezero.seq": one.seq, **attributes}, start_time=one.at_ns)
        if failure:
            span.set_status(Status(StatusCode.ERROR, failure))
        span.end()


def _parent(span: Span) -> str:
    """As ``traceparent``; empty where it is not sampled, so that nothing is carried for nothing."""
    carrier: dict[str, str] = {}
    if span.is_recording():
        _W3C.inject(carrier, trace.set_span_in_context(span))
    return carrier.get("traceparent", "")


def _context(parent: str) -> Context:
    return _W3C.extract({"traceparent": parent})
