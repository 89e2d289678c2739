"""What a test asks a cache: does this request reach the origin?"""

from __future__ import annotations

from support.caches.base import CacheEdge
from support.scripted import ScriptedOrigin


def fetched(edge: CacheEdge, origin: ScriptedOrigin, target: str, **headers: str) -> bool:
    """Does a GET reach the origin?"""
    before = len(origin.asked)
    edge.get(target, **headers)
    return len(origin.asked) > before


def stored(edge: CacheEdge, origin: ScriptedOrigin, *targets: str, **headers: str) -> None:
    """Bring them into the cache."""
    for target in targets:
        edge.get(target, **headers)
        assert not fetched(edge, origin, target, **headers), f"{target} is not cached"
