"""Purges accepted per second over HTTP, durable, 64 connections, beside the same rows committed straight into SQLite in groups of 64."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from bench import wrk
from bench.harness import ROOT, Figure, Scale, Tick, at_least, beside, in_turn
from bench.service import AUTHORIZATION, PURGES, Service, committing, constant, service

CONNECTIONS = 64
_SCRIPT = """
local n = 0
wrk.method = "POST"
request = function()
  n = n + 1
  return wrk.format(nil, nil, nil, '{"url":"http://%s/photos/%s/' .. n .. '.jpg"}')
end
"""


def parts(scale: Scale) -> int:
    return 4 * scale.rounds


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    with service(folder / "service") as ours, constant(folder) as bare, committing(folder) as least:
        samples = in_turn(
            {
                "ours": lambda: purge(ours.address, ours, scale.seconds),
                "group commit": lambda: _group_commit(folder / "peer", scale.seconds),
                "least": lambda: purge(least, ours, scale.seconds),
                "bare": lambda: purge(bare, ours, scale.seconds),
            },
            scale.rounds,
            tick,
        )
    what = f"purges accepted/s, durable, {CONNECTIONS} connections"
    committed = f"the same rows straight into SQLite by one thread, {CONNECTIONS} to a commit"
    return [
        beside(what, samples, "ours", "group commit", committed, at_least(0.25, 0.4)),
        beside(what, samples, "ours", "least", "the least durable API on the same server: reads the URL, group commit, 201", at_least(0.25, 0.4)),
        Figure(what, statistics.median(samples["ours"]), "/s", "", at_least(4000, 8000), "median"),
        beside(what, samples, "ours", "bare", "a bare ASGI application that reads the same requests and keeps nothing"),
    ]


def purge(address: str, named: Service, seconds: float, group: str = "album") -> float:
    """Purges per second of distinct URLs under the endpoint of ``named``, sent to ``address``."""
    script = _SCRIPT % (named.edge, group)
    return wrk.load(f"http://{address}{PURGES}", CONNECTIONS, seconds, {**AUTHORIZATION, "Content-Type": "application/json"}, script)


def _group_commit(folder: Path, seconds: float) -> float:
    command = [sys.executable, "-m", "bench.group_commit", str(folder), str(CONNECTIONS), str(seconds)]
    return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
