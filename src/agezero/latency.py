"""How long purges take from durable to confirmed, as a histogram: O(1) for a batch of entries or a report, however many purges are in them.

Theory: entries become durable in batches, each a point (head, at); what is reached is a seq that only rises. A point whose head has been reached
is counted as so many entries as it brought, and forgotten. If the points are too many, because an edge is away, new entries join the newest
point: they are then counted as older than they are, never as younger.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper ends; what took longer is in a last one without an end."""
POINTS_MAX = 4096


class Latency:
    """Of one edge, or of all. Entries up to ``head`` were there before: when they became durable is not known, and they are not counted."""

    def __init__(self, head: int, now_s: float) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0
        self._known = head
        self._reached = 0
        self._points = deque([(head, now_s)] if head else [])

    def accepted(self, head: int, now_s: float) -> None:
        """Entries up to ``head`` are durable."""
        if self._points and len(self._points) >= POINTS_MAX:
            now_s = self._points.pop()[1]
        self._points.append((head, now_s))

    def reached(self, seq: int, now_s: float) -> None:
        """Everything up to ``seq`` is confirmed. Lower than before is no news."""
        while self._points and self._reached < seq:
            head, at_s = self._points[0]
            self._count(min(head, seq), now_s - at_s)
            if head > seq:
                return
            self._points.popleft()

    def waiting_s(self, now_s: float) -> float:
        """The age of the oldest entry that is not confirmed; 0 without one. Of those from before: how long they have been waited for."""
        return max(0.0, now_s - self._points[0][1]) if self._points else 0.0

    def buckets(self) -> Iterator[tuple[str, float]]:
        """As Prometheus wants them: upper end, and how many took at most that long."""
        total = 0
        for end_s, count in zip((*BUCKETS_S, math.inf), self.counts, strict=True):
            total += count
            yield ("+Inf" if end_s == math.inf else str(end_s)), total

    def _count(self, seq: int, took_s: float) -> None:
        entries = seq - max(self._reached, self._known)
        self._reached = seq
        if entries > 0:
            self.counts[bisect_left(BUCKETS_S, took_s)] += entries
            self.sum_s += took_s * entries
