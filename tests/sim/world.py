"""Virtual time, one queue of events, and separate streams of chance.

The same seed gives the same run on any Python: the only source of chance is ``random.Random.random``, whose sequence is promised to stay,
events at the same time happen in the order in which they were scheduled, and nothing iterates over a set of strings.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from typing import Any, TypeVar

Item = TypeVar("Item")
Call = Callable[..., Any]

ANY_LIFE = -1
"""An event for whoever is at that address when it happens, unless nobody is up."""
EVENTS_MAX = 10_000
"""Far more than any run needs: beyond it somebody is busy for nothing."""


class Violation(Exception):
    """An invariant does not hold. ``invariant`` is its name in the design."""

    def __init__(self, invariant: str, what: str) -> None:
        super().__init__(invariant, what)
        self.invariant = invariant
        self.what = what

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"


class Stream:
    """A stream of chance of its own, so that a change in one part of a run leaves the others as they were."""

    def __init__(self, seed: int, name: str) -> None:
        self.unit = random.Random(f"{seed}/{name}").random

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def below(self, count: int) -> int:
        return int(self.unit() * count)

    def pick(self, items: Sequence[Item]) -> Item:
        return items[int(self.unit() * len(items))]


class World:
    """The queue of events. Everything that happens is a call with an actor, a label and arguments."""

    def __init__(self, seed: int, trace: bool = False) -> None:
        self.seed = seed
        self.now_s = 0.0
        self.faulty = True
        self.order = Stream(seed, "scheduling")
        self.network = Stream(seed, "network")
        self.work = Stream(seed, "work")
        self.fault = Stream(seed, "fault")
        self.marks: set[str] = set()
        self.trace: list[str] | None = [] if trace else None
        self.digest = hashlib.blake2b(digest_size=8)
        self.events = 0
        self._count = 0
        self._queue: list[tuple[float, int, Actor, int, str, Call, tuple[Any, ...]]] = []

    def schedule(self, delay_s: float, actor: Actor, life: int, label: str, call: Call, *args: Any) -> None:
        self._count += 1
        heappush(self._queue, (self.now_s + delay_s, self._count, actor, life, label, call, args))

    def run(self, until_s: float, ended: Callable[[], bool] | None = None) -> bool:
        """Let things happen until ``until_s``; True as soon as ``ended`` says so."""
        queue = self._queue
        while queue and queue[0][0] <= until_s:
            self.now_s, _, actor, life, label, call, args = heappop(queue)
            if actor.life != life and (life != ANY_LIFE or not actor.up):
                continue
            if actor.backlog is not None:
                actor.backlog.append((life, label, call, args))
                continue
            self.events += 1
            if self.events > EVENTS_MAX:
                raise Violation("bounded", f"{EVENTS_MAX} events and no end; the last is {label} at {actor.name}")
            if self.trace is not None:
                self.note(f"{actor.name}: {label}")
            call(*args)
            if ended is not None and ended():
                return True
        self.now_s = max(self.now_s, until_s)
        return False

    def note(self, line: str) -> None:
        """Write a line into the trace."""
        if self.trace is not None:
            line = f"{self.now_s:.9f} {line}"
            self.trace.append(line)
            self.digest.update(line.encode())

    def mark(self, name: str) -> None:
        """Remember that the run got here."""
        self.marks.add(name)


class Actor:
    """Something that can be down, restarted (a new ``life``) or paused (events wait), with a clock of its own."""

    def __init__(self, world: World, name: str, rate: float = 1.0) -> None:
        self.world = world
        self.name = name
        self.life = 0
        self.up = True
        self.rate = rate
        self.backlog: list[tuple[int, str, Call, tuple[Any, ...]]] | None = None

    def clock_s(self) -> float:
        """The actor's own monotonic clock."""
        return 1000.0 + self.rate * self.world.now_s

    def after(self, delay_s: float, label: str, call: Call, *args: Any) -> None:
        """``call`` after ``delay_s`` on the actor's own clock, if it lives on. Timers may be early by a nanosecond, as the event loop's are."""
        self.world.schedule(max(1e-6, delay_s / self.rate - 1e-9), self, self.life, label, call, *args)

    def end(self) -> None:
        """Everything volatile is gone, timers included."""
        self.life += 1
        self.up = False
        self.backlog = None

    def pause(self) -> None:
        if self.backlog is None:
            self.backlog = []

    def resume(self) -> None:
        backlog, self.backlog = self.backlog or [], None
        for life, label, call, args in backlog:
            self.world.schedule(0.0, self, life, label, call, *args)
