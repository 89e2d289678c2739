"""Traffic Server with our Lua script, beside the same without it."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import caches
from bench.caches import Cache, Peer, by_purge
from bench.harness import at_least
from support.caches.base import CacheEdge
from support.caches.trafficserver import PROGRAMS, running_trafficserver

CONNECTIONS = 4
_HIT = re.compile(r"\[[^\]]*c[HR]")
_RECORDS = "CONFIG proxy.config.cache.min_average_object_size INT 2000"


def _start(origin: str, folder: Path, ours: bool) -> AbstractContextManager[CacheEdge]:
    without = () if ours else ("plugins",)
    return running_trafficserver(origin, folder, opened=False, without=without, threads=2, slots=2**18, disk="1G", records=_RECORDS)


CACHE = Cache(
    title="Traffic Server",
    programs=PROGRAMS,
    start=_start,
    is_hit=lambda headers: _HIT.search(headers.get("Via", "")) is not None,
    peers={"PURGE": Peer(f"its own PURGE, by a raw client over {CONNECTIONS} connections", by_purge(CONNECTIONS), at_least(0.5), part=4)},
)
parts, measure = partial(caches.parts, CACHE), partial(caches.measure, CACHE)
