"""What Prometheus can read. The hot path only adds to plain integers; they become samples when somebody asks."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from agezero import __version__

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
ACCEPT_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

FAILED_ATTEMPTS = ("no_key", "wrong_key", "expired_key", "disabled", "too_many_attempts")

disable_created_metrics()  # type: ignore[no-untyped-call]


class HttpMetrics(Collector):
    """Counts of the HTTP side. Other parts may register their own collectors with ``registry``."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.failed_attempts = Counter(dict.fromkeys(FAILED_ATTEMPTS, 0))
        self.rate_limited: Counter[str] = Counter()
        self.streams_open = 0
        self.purges_accepted = 0
        self.accept_duration_s = Histogram(
            "agezero_accept_duration_seconds", "Time from a purge's body to its durable log entry.", buckets=ACCEPT_BUCKETS_S, registry=self.registry
        )
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    def expect(self, call: str) -> None:
        """There is such a call. What an alert looks at is there from the start, or Prometheus would not see the first one as a rise."""
        for status in (500, 503):
            self.requests[call, status] += 0
        self.rate_limited[call] += 0

    def collect(self) -> Iterator[Metric]:
        """Prometheus asks for this on every scrape."""
        requests = CounterMetricFamily("agezero_requests", "Requests answered, by call and HTTP status.", labels=["call", "status"])
        for (call, status), count in sorted(self.requests.items()):
            requests.add_metric([call, str(status)], count)
        yield requests
        failed = CounterMetricFamily("agezero_failed_attempts", "Requests without a valid key, by why.", labels=["why"])
        for why, count in sorted(self.failed_attempts.items()):
            failed.add_metric([why], count)
        yield failed
        limited = CounterMetricFamily("agezero_rate_limited", "Requests refused because the key sent too many, by call.", labels=["call"])
        for call, count in sorted(self.rate_limited.items()):
            limited.add_metric([call], count)
        yield limited
        yield GaugeMetricFamily("agezero_streams_open", "Streams of events and exports that are open.", self.streams_open)
        yield CounterMetricFamily("agezero_purges_accepted", "Purges answered 201: they are durable in the log.", self.purges_accepted)
        yield InfoMetricFamily("agezero_build", "The version that runs.", {"version": __version__, "python": platform.python_version()})

    def text(self) -> bytes:
        """Everything in the registry, in Prometheus' text format."""
        return generate_latest(self.registry)
