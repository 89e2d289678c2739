"""How long purges take from durable to confirmed, as a histogram: O(1) for a batch of entries or a report, however many purges or edges there are.

Theory: entries become durable in batches, each a point (head, at) that all edges share. What an edge has reached only rises; between its last report
and this one lie points whose ages fall as their seqs rise. So each bucket is a range of them, found by bisection, and the sum of their times a
difference of two running totals. If the points are too many, the older half is thinned: entries join the point before theirs, and are then counted as
older than they are, never as younger.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise

BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper ends; what took longer is in a last one without an end."""
POINTS_MAX = 8192


class Arrivals:
    """When entries became durable. Of those up to ``head``, which were there before ``now_s``, that is not known."""

    def __init__(self, head: int, now_s: float) -> None:
        self.heads = [head]
        self.at_s = [now_s]
        self._origin_s = now_s
        self._totals_s = [0.0]  # up to each point: entries × (at - origin), but for a constant

    def accepted(self, head: int, now_s: float) -> None:
        """Entries up to ``head`` are durable."""
        if head <= self.heads[-1]:
            return
        if len(self.heads) >= POINTS_MAX:
            self._thin()
        self._totals_s.append(self._totals_s[-1] + (head - self.heads[-1]) * (now_s - self._origin_s))
        self.heads.append(head)
        self.at_s.append(now_s)

    def since_s(self, seq: int) -> float | None:
        """When the entry after ``seq`` became durable; None where there is none."""
        index = bisect_right(self.heads, seq)
        return self.at_s[index] if index < len(self.heads) else None

    def ages_s(self, begin: int, end: int, now_s: float) -> float:
        """The sum of the ages of the entries above ``begin`` up to ``end``; both from the first point to the last."""
        return (end - begin) * (now_s - self._origin_s) - (self._total_s(end) - self._total_s(begin))

    def by_age(self, begin: int, end: int, now_s: float) -> Iterator[tuple[int, int]]:
        """Buckets, and how many of those entries are in each."""
        first = bisect_right(self.heads, begin)
        while begin < end:
            bucket = bisect_left(BUCKETS_S, now_s - self.at_s[first])
            younger = bisect_left(self.at_s, now_s - BUCKETS_S[bucket - 1], first + 1) if bucket else len(self.heads)
            upto = min(end, self.heads[younger - 1])
            yield bucket, upto - begin
            begin, first = upto, younger

    def _total_s(self, seq: int) -> float:
        index = bisect_left(self.heads, seq)
        return self._totals_s[index] - (self.heads[index] - seq) * (self.at_s[index] - self._origin_s)

    def _thin(self) -> None:
        """Every second point of the older half takes in the entries of the one after it. The first one of all stays."""
        half = len(self.heads) // 2 | 1
        self.heads = [self.heads[0], *self.heads[2:half:2], *self.heads[half:]]
        self.at_s = [self.at_s[0], *self.at_s[1:half:2], *self.at_s[half:]]
        self._sum_up(len(self.heads) - 1)

    def _sum_up(self, origin: int) -> None:
        """From the newest point on, back and forth: what is asked for lies near it, and large sums have no room for small differences."""
        self._origin_s = self.at_s[origin]
        each = [(head - before) * (at_s - self._origin_s) for (before, head), at_s in zip(pairwise(self.heads), self.at_s[1:], strict=True)]
        self._totals_s = list(accumulate((-total for total in reversed(each)), initial=0.0))[::-1]


class Latency:
    """Of one edge, or of all. Entries that were there before are not counted."""

    def __init__(self, arrivals: Arrivals, now_s: float) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.sum_s = 0.0
        self._arrivals = arrivals
        self._known = arrivals.heads[-1]
        self._begin_s = now_s
        self._reached = 0

    def reached(self, seq: int, now_s: float) -> None:
        """Everything up to ``seq`` is confirmed. Lower than before is no news."""
        begin, end = max(self._reached, self._known), min(seq, self._arrivals.heads[-1])
        self._reached = max(self._reached, end)
        if end > begin:
            self.sum_s += self._arrivals.ages_s(begin, end, now_s)
            for bucket, entries in self._arrivals.by_age(begin, end, now_s):
                self.counts[bucket] += entries

    def waiting_s(self, now_s: float) -> float:
        """The age of the oldest entry that is not confirmed; 0 without one. Of those from before: how long they have been waited for."""
        since_s = self._begin_s if self._reached < self._known else self._arrivals.since_s(self._reached)
        return 0.0 if since_s is None else max(0.0, now_s - since_s)

    def buckets(self) -> Iterator[tuple[str, float]]:
        """As Prometheus wants them: upper end, and how many took at most that long."""
        total = 0
        for end_s, count in zip((*BUCKETS_S, math.inf), self.counts, strict=True):
            total += count
            yield ("+Inf" if end_s == math.inf else str(end_s)), total
