"""What the rows share: how much to measure, sides measured in turn, figures with their limits, child processes."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).parents[1]
STOP_S = 15
POLL_S = 0.002


class NotMeasured(Exception):
    """A row has no figure; ``str()`` says why and what to do."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured. ``seconds`` is the length of one load (many short ones beat few long ones: the machine drifts); the rest are counts."""

    name: str
    rounds: int
    seconds: float
    purges_timed: int
    purges_in_table: int
    purges_kept: int
    objects: int
    prefixes: int
    starts: int
    cache_rounds: int
    """As ``rounds``, for each of the caches that are not embedded."""
    purges_driven: int
    """Into each of them, in each round."""
    cached: int
    """Objects in each of them, of which 1 % are purged by their prefix."""
    leaves_out: frozenset[str] = frozenset()
    """Rows that there is no time for, unless they are asked for by name."""


FULL = Scale("full", 11, 1, 2000, 100_000, 1_000_000, 200, 400, 7, 7, 20_000, 100_000)
QUICK = Scale("quick", 2, 0.3, 300, 20_000, 5000, 20, 100, 2, 2, 3000, 2000, frozenset({"killed", "trafficserver", "squid"}))
TINY = Scale("tiny", 1, 0.2, 10, 1000, 500, 2, 5, 1, 1, 1000, 200)
"""For the test of the harness: its figures mean nothing."""


class Sense(StrEnum):
    """Which side of its limit a figure has to be on."""

    AT_LEAST = "≥"
    AT_MOST = "≤"


@dataclass(frozen=True, slots=True)
class Limit:
    """``goal`` is what is aimed at next; None: nothing yet."""

    sense: Sense
    bound: float
    goal: float | None = None

    def holds(self, measured: float) -> bool:
        return measured >= self.bound if self.sense is Sense.AT_LEAST else measured <= self.bound

    def margin(self, measured: float) -> float:
        """1 is the limit itself, more is better."""
        if self.sense is Sense.AT_LEAST:
            return measured / self.bound
        return self.bound / max(measured, 1e-9) if self.bound else 1 / (1 + measured)


def at_least(bound: float, goal: float | None = None) -> Limit:
    return Limit(Sense.AT_LEAST, bound, goal)


def at_most(bound: float, goal: float | None = None) -> Limit:
    return Limit(Sense.AT_MOST, bound, goal)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``unit`` is "×" for a ratio; ``detail`` gives the raw figures in words; ``samples`` is all that was measured."""

    what: str
    measured: float
    unit: str
    against: str = ""
    limit: Limit | None = None
    detail: str = ""
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return "for information"
        return "passes" if self.limit.holds(self.measured) else "falls short"


Tick = Callable[[], None]
"""Called once for each part of a row that is done."""


def in_turn(sides: Mapping[str, Callable[[], float]], rounds: int, tick: Tick) -> dict[str, list[float]]:
    """Measure all sides ``rounds`` times, every other time in the opposite order, so that what drifts does so for all of them."""
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in sides if number % 2 == 0 else reversed(list(sides)):
            samples[name].append(sides[name]())
            tick()
    return samples


def ratio(samples: Mapping[str, Sequence[float]], over: str, under: str) -> float:
    """The median of the ratios of the values that were measured beside each other."""
    return statistics.median(a / b for a, b in zip(samples[over], samples[under], strict=True))


def percentile(values: Sequence[float], part: float) -> float:
    """Nearest rank."""
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


def rates(samples: Mapping[str, Sequence[float]], *names: str) -> str:
    """``ours 31,900 /s, bare 39,800 /s``: medians."""
    return ", ".join(f"{name} {statistics.median(samples[name]):,.0f} /s" for name in names)


def beside(what: str, samples: Mapping[str, Sequence[float]], over: str, under: str, peer: str, limit: Limit | None = None) -> Figure:
    """The figure for a ratio of two sides."""
    return Figure(what, ratio(samples, over, under), "×", peer, limit, rates(samples, over, under), {name: samples[name] for name in (over, under)})


@contextmanager
def process(command: Sequence[str | Path], output: Path, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A child of our own, in its own session; what it prints goes to ``output``. Ended by its pid."""
    with output.open("ab") as log:
        child = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | dict(env or {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def wait_until(ready: Callable[[], bool], child: subprocess.Popen[bytes], output: Path, deadline_s: float = 30) -> None:
    """Poll ``ready``. Raises :class:`NotMeasured` with what the child said, if it ends or takes too long."""
    end_s = time.monotonic() + deadline_s
    while not ready():
        if child.poll() is not None or time.monotonic() > end_s:
            raise NotMeasured(f"{child.args!r} is not ready, status {child.poll()}:\n{output.read_text(errors='replace')[-2000:]}")
        time.sleep(POLL_S)
