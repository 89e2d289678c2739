"""One run: a fleet, its clients, its faults; then everything heals, and every purge that was accepted must complete."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from chaos.clients import PATHS, VARIANTS, Clients, pace_of
from chaos.fleet.faults import Faults
from chaos.fleet.scene import scene
from chaos.fleet.traffic import fleet_traffic, healed
from chaos.run import CACHE_CONTROL, Result, tell
from support.stamped import stamped_origin

HEALED_WITHIN_S = 90.0


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """``kinds``: names of faults, None for all; ``fence``: False takes the safeguard away; ``data``: None for a directory thrown away."""

    seed: int
    duration_s: float
    kinds: Sequence[str] | None = None
    fence: bool = True
    data: Path | None = None


async def run(plan: FleetPlan, report: Callable[[Result, float], None] = lambda *_: None) -> Result:
    """``report`` is told how it stands and how many seconds have passed, each second."""
    pace = random.Random(f"{plan.seed} origin")
    result = Result()
    with ExitStack() as stack:
        data = plan.data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agezero-chaos-")))
        async with (
            stamped_origin(lambda *_: pace_of(pace), CACHE_CONTROL) as origin,
            scene(data, origin.url, fence=plan.fence) as here,
            fleet_traffic(here, result.history, random.Random(f"{plan.seed} ways")) as client,
        ):
            faults = Faults(here, result.history, random.Random(plan.seed), plan.kinds)
            faults.fences = plan.fence
            result.faults = faults.counts
            try:
                async with asyncio.TaskGroup() as group:
                    clients = Clients(client, origin, random.Random(f"{plan.seed} clients"), group)
                    tasks = [*clients.start(), group.create_task(tell(result, report))]
                    await faults.run(asyncio.get_running_loop().time() + plan.duration_s)
                    await here.ready()
                    await healed(result.history, HEALED_WITHIN_S)
                    for task in tasks:
                        task.cancel()
                for edge in here.edges:
                    for path in PATHS:
                        await client.read_at(edge, path, VARIANTS[0])
            finally:
                result.output = here.logs()
    return result
