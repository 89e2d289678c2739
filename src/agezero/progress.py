"""What people wait for: when each edge confirmed, what has become complete, and that something has changed at all.

In memory only. The hot path adds to it without looking who listens: a report is one point on a timeline and, where nobody waits, nothing else.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Iterable
from itertools import count

from agezero import tracing
from agezero.core.timeline import POINTS_MAX, Timeline
from agezero.latency import Arrivals, Latency


class Progress:
    """One per process, within its event loop. ``points_max``: of each edge's timeline, 16 bytes each."""

    def __init__(self, points_max: int = POINTS_MAX) -> None:
        self._points_max = points_max
        self.edges: dict[str, Timeline] = {}
        self.completions = Timeline()
        self.completed = 0
        self.head = 0
        self.latencies: dict[str, Latency] = {}
        """From durable to confirmed, of each edge that has been heard of."""
        self._arrivals = Arrivals(0, time.monotonic())
        self.latency = Latency(self._arrivals, time.monotonic())
        """From durable to complete."""
        self.closing = False
        """The service ends: whoever waits is let go, and comes again when it is back."""
        self._changed = asyncio.Event()
        self._listeners = 0
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = count()

    def begin(self, head: int, names: Iterable[str]) -> None:
        """The log is at ``head``, and these edges are members."""
        now_s, self.head = time.monotonic(), head
        self._arrivals = Arrivals(head, now_s)
        self.latency = Latency(self._arrivals, now_s)
        self.latencies = {name: Latency(self._arrivals, now_s) for name in names}

    def accepted(self, head: int) -> None:
        """Entries up to here are durable. Costs the same for one edge and for a thousand."""
        self.head = head
        self._arrivals.accepted(head, time.monotonic())

    def confirmed(self, name: str, watermark: int) -> None:
        """The edge has confirmed everything up to here."""
        line = self.edges.get(name)
        if line is None:
            line = self.edges[name] = Timeline(self._points_max)
        line.reached(watermark, now_ms())
        latency = self.latencies.get(name)
        if latency is None:
            latency = self.latencies[name] = Latency(self._arrivals, time.monotonic())
        latency.reached(watermark, time.monotonic())

    def complete(self, seq: int) -> None:
        """Every purge up to here is complete, and that may be said."""
        if seq <= self.completed and len(self.completions):
            return
        self.completed = seq
        self.completions.reached(seq, now_ms())
        self.latency.reached(seq, time.monotonic())
        tracing.complete(seq)
        while self._waiting and self._waiting[0][0] <= seq:
            _resolve(heapq.heappop(self._waiting)[2])

    def ring(self) -> None:
        """Something may have changed."""
        if self._listeners:
            changed, self._changed = self._changed, asyncio.Event()
            self._listeners = 0
            changed.set()

    async def change(self, timeout_s: float) -> bool:
        """Return when something may have changed; False after ``timeout_s`` without a change."""
        self._listeners += 1
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def wait(self, seq: int, timeout_s: float) -> None:
        """Return when the purge is complete, after ``timeout_s``, or when the service ends."""
        if seq <= self.completed or self.closing:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (seq, next(self._number), done)
        heapq.heappush(self._waiting, entry)
        try:
            await asyncio.wait([done], timeout=timeout_s)
        finally:
            if not done.done():  # else it would stay for as long as the purge is pending
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)

    def close(self) -> None:
        """Let everybody go."""
        self.closing = True
        for _, _, done in self._waiting:
            _resolve(done)
        self._waiting.clear()
        self._listeners += 1
        self.ring()


def now_ms() -> int:
    """Milliseconds since 1970, for people."""
    return time.time_ns() // 1_000_000


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
