"""What the log, the ledger and the purge table tell Prometheus; read only when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from agezero.core.epochs import EpochTable
from agezero.core.ledger import Ledger
from agezero.ports import PurgeLog


class FleetMetrics(Collector):
    """Registers itself with ``registry``."""

    def __init__(self, log: PurgeLog, ledger: Ledger, tables: Mapping[str, EpochTable], registry: CollectorRegistry) -> None:
        self._log = log
        self._ledger = ledger
        self._tables = tables
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Prometheus asks for this on every scrape."""
        yield GaugeMetricFamily("agezero_log_head", "The highest seq in the purge log.", self._log.head)
        yield GaugeMetricFamily("agezero_log_floor", "The highest seq that retention has removed.", self._log.floor)
        yield GaugeMetricFamily("agezero_completed", "Every purge up to this seq is complete.", self._ledger.completed)
        lag = GaugeMetricFamily("agezero_edge_lag", "Purges in the log that the edge has not confirmed.", labels=["edge"])
        fenced = GaugeMetricFamily("agezero_edge_fenced", "1 while the edge holds no lease and bypasses its cache.", labels=["edge"])
        for name, member in self._ledger.members.items():
            lag.add_metric([name], max(0, self._log.head - member.watermark))
            fenced.add_metric([name], float(not member.counts))
        yield lag
        yield fenced
        slots = GaugeMetricFamily("agezero_table_slots", "Size of the purge table.", labels=["edge"])
        used = GaugeMetricFamily("agezero_table_slots_used", "Slots that a purge has touched.", labels=["edge"])
        ratio = GaugeMetricFamily("agezero_table_collateral_ratio", "Part of the purge table that purges have touched.", labels=["edge"])
        for name, table in self._tables.items():
            slots.add_metric([name], len(table.slots))
            used.add_metric([name], table.used)
            ratio.add_metric([name], table.used / len(table.slots))
        yield slots
        yield used
        yield ratio
