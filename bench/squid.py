"""Squid with agezero.conf, beside the same Squid without it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from bench import caches
from bench.caches import Cache, Peer, by_purge
from bench.harness import at_least
from support.caches.base import CacheEdge
from support.caches.squid import running_squid

CONNECTIONS = 4
_ALLOW = "acl purge method PURGE\nhttp_access allow purge\n"
_MEMORY = "cache_mem 600 MB\n"


def _start(origin: str, folder: Path, ours: bool) -> AbstractContextManager[CacheEdge]:
    return running_squid(origin, folder, leased=False, include=ours, more=_MEMORY if ours else _MEMORY + _ALLOW, store="", slots=2**18)


CACHE = Cache(
    title="Squid",
    programs=("squid",),
    start=_start,
    is_hit=lambda headers: headers.get("X-Cache", "").startswith("HIT"),
    peers={"PURGE": Peer(f"its own PURGE, by a raw client over {CONNECTIONS} connections", by_purge(CONNECTIONS), at_least(0.5), part=8)},
)
parts, measure = partial(caches.parts, CACHE), partial(caches.measure, CACHE)
