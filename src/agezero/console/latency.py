"""How long purges took, by when they were completed: what the page of that name shows.

Theory: a purge's latency at an edge is when the edge's watermark reached it, less when it was accepted; of the whole, when it was completed. Both
times are in memory (:mod:`agezero.core.timeline`), exact for what is new and never too short for what is old. Of an interval with many purges an
even sample is taken, in runs spread over it, so that a busy second does not hide a slow one. Purges that are not complete are in no interval:
a plot of latencies can't show what has not ended, so their number and age are told beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from agezero.core.timeline import Timeline
from agezero.journal import Journal, Sees
from agezero.ports import PurgeRecord

INTERVALS = 30
RUNS = 10
RUN = 20
"""Of an interval at most RUNS times RUN purges are looked at."""
RANGES_S = {"5m": 300, "1h": 3600, "6h": 6 * 3600, "24h": 24 * 3600}


@dataclass(frozen=True, slots=True)
class Point:
    """One interval, which ends at ``until_ms``. Latencies in milliseconds; None where nothing was completed in it."""

    until_ms: int
    count: int = 0
    p50: int | None = None
    p99: int | None = None


@dataclass(slots=True)
class Latencies:
    """A series of points for all edges together, and one for each; ``sampled``: not every purge was looked at."""

    whole: list[Point] = field(default_factory=list)
    edges: dict[str, list[Point]] = field(default_factory=dict)
    total: Point = field(default_factory=lambda: Point(0))
    sampled: bool = False


async def latencies(journal: Journal, sees: Sees, range_s: int, now_ms: int) -> Latencies:
    """Of the purges that were completed in the last ``range_s``. Raises :class:`agezero.ports.LogUnavailable`."""
    progress, found = journal.progress, Latencies()
    names = [edge.name for edge in journal.edges() if edge.name in progress.edges]
    found.edges = {name: [] for name in names}
    step_ms = range_s * 1000 // INTERVALS
    begin_ms = now_ms - step_ms * INTERVALS
    everything: list[int] = []
    for until_ms in range(begin_ms + step_ms, now_ms + 1, step_ms):
        after, last = (progress.completions.reached_by(at) for at in (until_ms - step_ms, until_ms))
        records = [record for record in await _sample(journal, after, last) if sees(record)]
        found.sampled |= last - after > RUNS * RUN
        took = _took(records, progress.completions)
        everything += took
        found.whole.append(point(until_ms, took))
        for name in names:
            found.edges[name].append(point(until_ms, _took(records, progress.edges[name])))
    found.total = point(now_ms, everything)
    return found


def point(until_ms: int, took: Sequence[int]) -> Point:
    """The nearest-rank percentiles of the latencies."""
    ordered = sorted(took)
    return Point(until_ms, len(ordered), _rank(ordered, 50), _rank(ordered, 99)) if ordered else Point(until_ms)


def _rank(ordered: Sequence[int], percent: int) -> int:
    return ordered[-(-len(ordered) * percent // 100) - 1]


async def _sample(journal: Journal, after: int, last: int) -> list[PurgeRecord]:
    found: list[PurgeRecord] = []
    for start, limit in _runs(after, last):
        found += [record for record in await journal.history.after(start, limit) if record.last <= last]
    return found


def _runs(after: int, last: int) -> Iterator[tuple[int, int]]:
    count = last - after
    if count <= RUNS * RUN:
        if count:
            yield after, count
        return
    for run in range(RUNS):
        yield after + count * run // RUNS, RUN


def _took(records: Sequence[PurgeRecord], line: Timeline) -> list[int]:
    times = ((line.when(record.last), record.accepted_ms) for record in records)
    return [max(0, at - accepted_ms) for at, accepted_ms in times if at is not None]
