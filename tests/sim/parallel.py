"""Runs seeds on all processors; the outcomes come in the order of the seeds."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence

from sim.simulation import Outcome

CHUNK = 25


def each_seed(run: Callable[[int], Outcome], seeds: Sequence[int], processes: int | None = None) -> Iterator[Outcome]:
    """``processes`` None: one for each processor; 1: in this process. Closing the iterator ends the others."""
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        yield from map(run, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap(run, seeds, CHUNK)
