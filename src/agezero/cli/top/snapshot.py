"""What is shown: one look at the service, and what two of them say together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from statistics import quantiles

from agezero.cli.client import Client, in_words
from agezero.wire import Edge, Purge

NEWEST = 100
PENDING = 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """``at_s``: when, monotonic. ``purges``: newest first. ``pending``: some of those that are, newest first."""

    at_s: float
    edges: Sequence[Edge]
    pending: Sequence[Purge]
    purges: Sequence[Purge]

    @property
    def head(self) -> int:
        """The newest purge's seq; 0 without an edge that could tell."""
        return max((edge.watermark + edge.lag for edge in self.edges), default=0)

    def shown(self) -> list[Purge]:
        """Pending ones first: they are what somebody waits for."""
        pending = {purge.id for purge in self.pending}
        return [*self.pending, *(purge for purge in self.purges if purge.id not in pending and purge.state != "pending")]

    def latencies_ms(self) -> tuple[float, float] | None:
        """p50 and p99 from accepted to completed, of the newest that tell; None where fewer than two do."""
        took_ms = [took for purge in self.purges if (took := latency_ms(purge)) is not None]
        if len(took_ms) < 2:
            return None
        cuts = quantiles(took_ms, n=100, method="inclusive")
        return cuts[49], cuts[98]

    def per_second(self, before: Snapshot | None) -> float | None:
        """Selectors accepted since the look before."""
        if before is None or self.at_s <= before.at_s:
            return None
        return max(0, self.head - before.head) / (self.at_s - before.at_s)


def take(client: Client) -> Snapshot:
    """Look. Raises :class:`agezero.cli.output.CommandFailed`."""
    with in_words():
        edges = [edge for edge in client.api.edges() if edge.state != "removed"]
        pending = list(islice(client.api.purges(state="pending", limit=str(PENDING)), PENDING))
        purges = list(islice(client.api.purges(limit=str(NEWEST)), NEWEST))
    return Snapshot(time.monotonic(), edges, pending, purges)


def latency_ms(purge: Purge) -> float | None:
    """From accepted to completed, where both are known."""
    if purge.completed_at is None:
        return None
    return max(0.0, (datetime.fromisoformat(purge.completed_at) - datetime.fromisoformat(purge.accepted_at)).total_seconds() * 1000)
