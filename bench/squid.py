"""Squid with agezero.conf beside the same Squid without it: hits/s, URL purges/s, and what a prefix purge costs while many objects are stored."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench import wrk
from bench.harness import ROOT, Figure, NotMeasured, Scale, Tick, at_least, beside, in_turn, percentile

sys.path.insert(0, str(ROOT / "tests"))  # the Squid of the tests

from support.caches.squid import SquidEdge, running_squid
from support.scripted import scripted_origin

CONNECTIONS = 32
BATCH = 200
FOLDERS = 100
"""One of them is purged: 1 %."""
OBJECTS_TIMES = 500
_PURGE = 'wrk.method = "PURGE"\nlocal n = 0\nrequest = function() n = n + 1; return wrk.format("PURGE", "/p/" .. n) end\n'
_ALLOW = "acl purge method PURGE\nhttp_access allow purge\n"


def parts(scale: Scale) -> int:
    return 4 * scale.rounds + scale.prefixes // 10


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    with scripted_origin() as origin, ExitStack() as stack:
        start = partial(_start, stack, origin.url, folder)
        ours = start("ours", store="")
        bare = start("bare", store="", include=False, leased=False, more=_ALLOW)
        hits = {"ours": partial(_hits, ours, scale.seconds), "bare": partial(_hits, bare, scale.seconds)}
        purges: dict[str, Callable[[], float]] = {"driver": partial(_purges, ours), "PURGE": partial(_stock_purges, bare, scale.seconds)}
        served = in_turn(hits, scale.rounds, tick)
        purged = in_turn(purges, scale.rounds, tick)
        prefix = _prefix(start("disk", store="ufs {} 2048 16 64"), scale, tick)
    return [
        beside("Squid, hits with the shipped configuration", served, "ours", "bare", "the same Squid without it"),
        beside("Squid, URL purges by one agent", purged, "driver", "PURGE", f"Squid's own PURGE by wrk, {CONNECTIONS} connections", at_least(0.5)),
        prefix,
    ]


def _start(stack: ExitStack, origin: str, folder: Path, name: str, **options: Any) -> SquidEdge:
    edge = stack.enter_context(running_squid(origin, folder / name, **options))
    _read(edge, ["/hot/object.jpg"])
    return edge


def _hits(edge: SquidEdge, seconds: int) -> float:
    _read(edge, ["/hot/object.jpg"] * 2)
    return wrk.load(f"{edge.url}/hot/object.jpg", CONNECTIONS, seconds)


def _purges(edge: SquidEdge) -> float:
    """From the log's order to the confirmation, in batches as an agent applies them, watermark saved."""
    began_s, rounds = time.perf_counter(), 25
    for number in range(rounds):
        edge.purge(*(f"/p/{number}/{one}" for one in range(BATCH)))
    return rounds * BATCH / (time.perf_counter() - began_s)


def _stock_purges(edge: SquidEdge, seconds: int) -> float:
    """404 to all of them: nothing is stored under these. wrk counts them as errors, so the rate is read from what it says."""
    try:
        return wrk.load(edge.url, CONNECTIONS, seconds, script=_PURGE)
    except NotMeasured as error:
        line = next(line for line in str(error).splitlines() if "Requests/sec" in line)
        return float(line.split()[1])


def _prefix(edge: SquidEdge, scale: Scale, tick: Tick) -> Figure:
    objects = scale.objects * OBJECTS_TIMES
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: _read(edge, [f"/{n % FOLDERS}/{n}.jpg" for n in range(part, objects, 8)]), range(8)))
    took_ms = []
    for number in range(scale.prefixes // 10):
        inside = f"/{number % FOLDERS}/{number % FOLDERS}.jpg"
        if _read(edge, [inside, inside])[-1] != "HIT":
            raise NotMeasured(f"{inside} is not cached")
        began_s = time.perf_counter()
        edge.purge(f"/{number % FOLDERS}/*")
        took_ms.append((time.perf_counter() - began_s) * 1000)
        if _read(edge, [inside])[0] != "MISS":
            raise NotMeasured(f"{inside} was not purged")
        tick()
    detail = f"{objects:,} objects on disk, p99 {percentile(took_ms, 0.99):.2f} ms"
    return Figure("Squid, prefix purge of 1 %", percentile(took_ms, 0.5), "ms", detail=detail, samples={"ms": took_ms})


def _read(edge: SquidEdge, targets: list[str]) -> list[str]:
    """What Squid said of each: HIT or MISS."""
    said = []
    with closing(HTTPConnection(edge.address, timeout=60)) as connection:
        for target in targets:
            connection.request("GET", target)
            answer = connection.getresponse()
            answer.read()
            said.append(answer.headers["X-Cache"].split()[0])
    return said


__all__ = ["measure", "parts"]
