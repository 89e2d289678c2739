"""How long a user waits: for a new service to be ready, and for `agezero --help`."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench.harness import Figure, Scale, Tick, at_most
from bench.service import AGEZERO, service, time_of


def parts(scale: Scale) -> int:
    return 2 * scale.starts


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    ready_s: list[float] = []
    help_s: list[float] = []
    for number in range(scale.starts):
        began_s = time.perf_counter()
        with service(folder / str(number)):
            ready_s.append(time.perf_counter() - began_s)
        tick()
        began_s = time.perf_counter()
        time_of([AGEZERO, "--help"])
        help_s.append(time.perf_counter() - began_s)
        tick()
    return [
        Figure("start to ready, new data directory", statistics.median(ready_s), "s", "", at_most(1.0), "median", {"s": ready_s}),
        Figure("agezero --help", statistics.median(help_s), "s", "", at_most(0.25), "median", {"s": help_s}),
    ]
