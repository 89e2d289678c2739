"""What the log, the ledger, the purge tables, webhooks and the audit tell Prometheus; read only when somebody asks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from agezero.audit import Audit
from agezero.control import ControlNode, EdgeView
from agezero.core.epochs import EpochTable
from agezero.latency import Latency
from agezero.webhooks.service import Webhooks

_CONFIRM = "Time from a purge's durable log entry to the edge's confirmation."
_COMPLETE = "Time from a purge's durable log entry to its completion on all edges."


class FleetMetrics(Collector):
    """Registers itself with ``registry``. ``blocked_after_s``: how old the oldest pending purge is when whoever holds it up counts as blocked."""

    def __init__(self, control: ControlNode, tables: Mapping[str, EpochTable], registry: CollectorRegistry, blocked_after_s: float) -> None:
        self._control = control
        self._tables = tables
        self._blocked_after_s = blocked_after_s
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Prometheus asks for this on every scrape."""
        yield _gauge("agezero_ready", "1 when purges can be accepted and proven.", self._control.ready() is None)
        yield from self._log()
        yield from self._edges()
        yield from _tables(self._tables)

    def _log(self) -> Iterator[Metric]:
        log, progress, completed = self._control.log, self._control.progress, self._control.ledger.completed
        yield _gauge("agezero_log_head_seq", "The highest seq in the purge log.", log.head)
        yield _gauge("agezero_log_floor_seq", "The highest seq that retention has removed.", log.floor)
        yield _gauge("agezero_log_entries", "Entries in the purge log.", log.head - log.floor)
        yield _gauge("agezero_completed_seq", "Every purge up to this seq is complete.", completed)
        yield _gauge("agezero_pending_entries", "Entries of the purge log that are not complete.", max(0, log.head - completed))
        yield _gauge("agezero_pending_seconds", "Age of the oldest purge that is not complete; 0 without one.", self._pending_s())
        histogram = HistogramMetricFamily("agezero_completion_duration_seconds", _COMPLETE)
        histogram.add_metric([], list(progress.latency.buckets()), progress.latency.sum_s)
        yield histogram

    def _edges(self) -> Iterator[Metric]:
        edges = self._control.edges()
        blocked = self._blocked()
        yield _by_edge("agezero_edge_lag_entries", "Entries of the purge log that the edge has not confirmed.", {e.name: e.lag for e in edges})
        lag = "Age of the oldest log entry that the edge has not confirmed; 0 without one."
        yield _by_edge("agezero_edge_lag_seconds", lag, {edge.name: self._lag_s(edge) for edge in edges})
        fenced = "1 while the edge holds no lease and bypasses its cache."
        yield _by_edge("agezero_edge_fenced", fenced, {edge.name: edge.state == "fenced" for edge in edges})
        yield _by_edge("agezero_edge_blocked", "1 while the edge holds purges up for too long.", {e.name: e.name in blocked for e in edges})
        yield _by_edge("agezero_edge_trouble", "1 while the edge can not go on, and says why.", {e.name: bool(e.trouble) for e in edges})
        histogram = HistogramMetricFamily("agezero_edge_confirm_duration_seconds", _CONFIRM, labels=["edge"])
        for name, latency in self._latencies(edges):
            histogram.add_metric([name], list(latency.buckets()), latency.sum_s)
        yield histogram

    def _latencies(self, edges: list[EdgeView]) -> Iterator[tuple[str, Latency]]:
        for edge in edges:
            latency = self._control.progress.latencies.get(edge.name)
            if latency is not None:
                yield edge.name, latency

    def _lag_s(self, edge: EdgeView) -> float:
        latency = self._control.progress.latencies.get(edge.name)
        return latency.waiting_s(time.monotonic()) if latency is not None and edge.lag else 0.0

    def _pending_s(self) -> float:
        pending = self._control.log.head > self._control.ledger.completed
        return self._control.progress.latency.waiting_s(time.monotonic()) if pending else 0.0

    def _blocked(self) -> set[str]:
        if self._pending_s() < self._blocked_after_s:
            return set()
        return {blocker.name for blocker in self._control.ledger.blockers(self._control.ledger.completed + 1)}


class StoreMetrics(Collector):
    """Of webhooks, of the audit, and of the file they lie in. Registers itself with ``registry``."""

    def __init__(self, webhooks: Webhooks, audit: Audit, database: Path, registry: CollectorRegistry) -> None:
        self._webhooks = webhooks
        self._audit = audit
        self._database = database
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Prometheus asks for this on every scrape."""
        attempts = CounterMetricFamily("agezero_webhook_attempts", "Attempts to tell a webhook something, by what came of it.", labels=["result"])
        for result in ("delivered", "retried", "failed"):
            attempts.add_metric([result], self._webhooks.attempts[result])
        yield attempts
        webhooks = self._webhooks.store.webhooks.values()
        yield _gauge("agezero_webhook_messages_waiting", "Messages to webhooks that wait to be sent, or sent again.", self._webhooks.waiting)
        yield _gauge("agezero_webhooks", "Webhooks that there are.", len(webhooks))
        yield _gauge("agezero_webhooks_stopped", "Webhooks that are told nothing more.", sum(bool(each.stopped) for each in webhooks))
        rows = CounterMetricFamily("agezero_audit_rows", "Rows written to the audit, by action; purges are in the log.", labels=["action"])
        for action, count in sorted(self._audit.written.items()):
            rows.add_metric([action], count)
        yield rows
        yield CounterMetricFamily(
            "agezero_audit_rows_dropped", "Rows that were not written to the audit: too many at once, or no room.", self._audit.dropped
        )
        size = GaugeMetricFamily("agezero_database_size_bytes", "Size of the database, by file.", labels=["file"])
        for file, path in (("database", self._database), ("wal", self._database.with_name(f"{self._database.name}-wal"))):
            size.add_metric([file], _size(path))
        yield size


def _tables(tables: Mapping[str, EpochTable]) -> Iterator[Metric]:
    yield _by_edge("agezero_table_slots", "Size of the purge table.", {name: len(table.slots) for name, table in tables.items()})
    yield _by_edge("agezero_table_slots_used", "Slots that a purge has touched.", {name: table.used for name, table in tables.items()})
    ratio = {name: table.used / len(table.slots) for name, table in tables.items()}
    yield _by_edge("agezero_table_collateral_ratio", "Part of the purge table that purges have touched.", ratio)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, float(value))


def _by_edge(name: str, text: str, values: Mapping[str, float]) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=["edge"])
    for edge, value in values.items():
        gauge.add_metric([edge], float(value))
    return gauge


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
