"""What a test asks a cache: does this request reach the origin?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from support.caches.base import CacheEdge
from support.scripted import ScriptedOrigin
from support.waiting import wait_for


def fetched(edge: CacheEdge, origin: ScriptedOrigin, target: str, **headers: str) -> bool:
    """Does a GET reach the origin?"""
    before = len(origin.asked)
    edge.get(target, **headers)
    return len(origin.asked) > before


def stored(edge: CacheEdge, origin: ScriptedOrigin, *targets: str, **headers: str) -> None:
    """Bring them into the cache. A cache on a busy machine may fetch once more: it keeps nothing whose lease ended meanwhile."""
    for target in targets:
        wait_for(partial(_found, edge, origin, target, headers), f"{target} is cached")


def _found(edge: CacheEdge, origin: ScriptedOrigin, target: str, headers: Mapping[str, str]) -> bool:
    return not fetched(edge, origin, target, **headers)
