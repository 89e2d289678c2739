"""How long one purge takes, alone: from sending the POST to reading ``Completed``, polled without a pause over one connection."""

from __future__ import annotations

import time
from pathlib import Path

from bench.harness import Figure, Scale, Tick, at_most, percentile
from bench.service import service

_WARM_UP = 50


def parts(scale: Scale) -> int:
    return scale.purges_timed


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    accepted_ms: list[float] = []
    completed_ms: list[float] = []
    with service(folder / "service") as ours:
        connection = ours.connect()
        for number in range(-_WARM_UP, scale.purges_timed):
            began_s = time.perf_counter()
            request_id = ours.purge(f"/photos/{number}.jpg", connection)
            accepted_s = time.perf_counter()
            ours.wait_completed(request_id, connection)
            ended_s = time.perf_counter()
            if number >= 0:
                accepted_ms.append((accepted_s - began_s) * 1000)
                completed_ms.append((ended_s - began_s) * 1000)
                tick()
    samples = {"accepted_ms": accepted_ms, "completed_ms": completed_ms}
    detail = f"of it, until the 201: {percentile(accepted_ms, 0.5):.2f} ms / {percentile(accepted_ms, 0.99):.2f} ms; {len(completed_ms)} purges"
    return [
        Figure("POST to Completed, one purge at a time, p50", percentile(completed_ms, 0.5), "ms", "", at_most(10, 3), detail, samples),
        Figure("POST to Completed, one purge at a time, p99", percentile(completed_ms, 0.99), "ms", "", at_most(50, 10), detail),
    ]
