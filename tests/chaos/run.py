"""One run: a machine, its clients, its faults; then everything heals, and every purge that was accepted must complete."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from chaos.clients import Clients, pace_of
from chaos.faults import CONFIG, Faults
from support.history import History
from support.machine import Machine, machine
from support.stamped import stamped_origin
from support.traffic import traffic

HEALED_WITHIN_S = 40.0
_LONG_RUN_S = 300
_REPORT_S = 1.0
CACHE_CONTROL = "max-age=2, stale-while-revalidate=5, stale-if-error=60"
"""So short that the edge also answers with what is stale, as it may with what was not purged."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``kinds``: names of faults, None for all; ``without``: a safeguard of :mod:`support.unsafe`; ``data``: None for a directory thrown away."""

    seed: int
    duration_s: float
    kinds: Sequence[str] | None = None
    without: str = ""
    data: Path | None = None


@dataclass(slots=True)
class Result:
    """``faults``: how often each kind came."""

    history: History = field(default_factory=History)
    faults: Counter[str] = field(default_factory=Counter)
    output: str = ""

    def __str__(self) -> str:
        counts = {**dict.fromkeys(("purges", "reads", "hits", "fenced", "polls", "refused"), 0), **self.history.counts, **self.faults}
        counts["violations"] = len(self.history.violations)
        return ", ".join(f"{count} {name}" for name, count in counts.items())


async def run(plan: Plan, report: Callable[[Result, float], None] = lambda *_: None) -> Result:
    """``report`` is told how it stands and how many seconds have passed, each second."""
    pace = random.Random(f"{plan.seed} origin")
    result = Result()
    with ExitStack() as stack:
        data = plan.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agezero-chaos-")))
        async with (
            stamped_origin(lambda *_: pace_of(pace), CACHE_CONTROL) as origin,
            machine(data, origin.url, CONFIG, plan.without) as here,
            traffic(here, result.history) as client,
        ):
            faults = Faults(here, random.Random(plan.seed), plan.kinds, long=plan.duration_s >= _LONG_RUN_S)
            result.faults = faults.counts
            try:
                async with asyncio.TaskGroup() as group:
                    clients = Clients(client, origin, random.Random(f"{plan.seed} clients"), group)
                    tasks = [*clients.start(), group.create_task(tell(result, report))]
                    await faults.run(asyncio.get_running_loop().time() + plan.duration_s)
                    await heal(here, result.history)
                    for task in tasks:
                        task.cancel()
                await clients.read_all()
            finally:
                result.output = here.output
    return result


async def tell(result: Result, report: Callable[[Result, float], None]) -> None:
    clock = asyncio.get_running_loop().time
    began_s = clock()
    while True:
        report(result, clock() - began_s)
        await asyncio.sleep(_REPORT_S)


async def heal(here: Machine, history: History) -> None:
    """Everything that was accepted so far must complete, with the clients going on."""
    await here.ready()
    accepted = set(history.pending)
    try:
        async with asyncio.timeout(HEALED_WITHIN_S):
            while accepted & history.pending.keys():  # noqa: ASYNC110 (another process cannot set an event here)
                await asyncio.sleep(0.02)
    except TimeoutError:
        history.healed(accepted)
