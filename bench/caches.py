"""What the rows of all caches that aren't embedded have in common. Each cache runs twice: with what we ship and driven by one agent, and without.

Measured are hits, beside the same cache without us; purges of URLs from the log to their confirmation, beside others who purge; and the purge of
a prefix with 1 % of what is cached. The caches are those of the tests, so their configuration is a user's own that includes ours.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from email.message import Message
from functools import partial
from pathlib import Path

import uvloop

from agezero.core.selector import Kind, Selector
from bench import raw, wrk
from bench.edges import plain
from bench.followed import Followed, followed
from bench.harness import Figure, Limit, NotMeasured, Scale, Tick, beside, in_turn, percentile
from support.caches.base import CacheEdge
from support.programs import find

OBJECT = "/photos/2026/summer/cat.jpg"
LOADED_BY = 32
"""Connections that ask for the object."""
FOLDERS = 100
"""One of them is purged: 1 %."""
_PREFIXES = 20
_FILLED_BY = 8
_TRIES = 2
_STORED_S = 10.0


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody else who purges. ``took_s``: seconds for the purges of these URLs, given the cache with us and the one without."""

    told: str
    took_s: Callable[[CacheEdge, CacheEdge, Sequence[str]], float]
    limit: Limit | None = None
    part: int = 1
    """Which part of the URLs it is given, where it's slow."""


@dataclass(frozen=True, slots=True)
class Cache:
    """``start``: origin, folder, "with us?" → a running one without a lease. ``is_hit``: by the headers of an answer."""

    title: str
    programs: tuple[str, ...]
    start: Callable[[str, Path, bool], AbstractContextManager[CacheEdge]]
    is_hit: Callable[[Message], bool]
    peers: Mapping[str, Peer]
    hits: Limit | None = None
    purges: Limit | None = None
    prefix: Limit | None = None
    fresh: bool = False
    """Are hits measured before any purge too?"""
    more: Callable[[Sides], Awaitable[list[Figure]]] | None = None
    """What else is measured at the end."""


@dataclass(frozen=True, slots=True)
class Sides:
    """A cache while it's measured. ``ours`` is driven by ``agent``, ``bare`` has nothing of us."""

    cache: Cache
    ours: CacheEdge
    bare: CacheEdge
    agent: Followed
    scale: Scale
    tick: Tick

    def url(self, path: str) -> Selector:
        """The URL of ``path`` at our side."""
        return Selector(Kind.URL, self.ours.host + path)

    async def in_turn(self, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
        """As :func:`bench.harness.in_turn`, while the agent goes on."""
        return await asyncio.to_thread(in_turn, sides, self.scale.cache_rounds, self.tick)


def parts(cache: Cache, scale: Scale) -> int:
    return (2 * (1 + cache.fresh) + 1 + len(cache.peers)) * scale.cache_rounds + 1


def measure(cache: Cache, scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    """All figures of one cache. Raises :class:`NotMeasured`."""
    missing = [program for program in cache.programs if find(program) is None]
    if missing:
        raise NotMeasured(f"not installed here: {', '.join(missing)}\nhint: .ci/run names the packages")
    return uvloop.run(_measure(cache, scale, folder, tick))


async def _measure(cache: Cache, scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    with plain(folder / "origin") as peer:
        origin = f"http://{peer.origin}"
        with cache.start(origin, folder / "bare", False) as bare, cache.start(origin, folder / "ours", True) as ours:
            async with followed(folder / "log", ours.driver, ours.state) as agent:
                sides = Sides(cache, ours, bare, agent, scale, tick)
                figures = [await _hits(sides, "nothing purged since it was stored")] if cache.fresh else []
                figures += await _purges(sides)
                await store(sides)
                await agent.purge([sides.url("/another.jpg")])
                figures += [await _hits(sides, f"after {scale.purges_driven * scale.cache_rounds:,} purges"), await _prefix(sides)]
                figures += await cache.more(sides) if cache.more else []
    tick()
    return figures


# Hits


async def _hits(sides: Sides, when: str) -> Figure:
    await store(sides)
    loads = {
        name: partial(wrk.load, edge.url + OBJECT, LOADED_BY, sides.scale.seconds) for name, edge in (("ours", sides.ours), ("bare", sides.bare))
    }
    samples = await sides.in_turn(loads)
    title = sides.cache.title
    return beside(f"{title}: hits/s, {when}", samples, "ours", "bare", f"the same {title} without AgeZero", sides.cache.hits)


async def store(sides: Sides) -> None:
    """Have the object stored at both. Raises :class:`NotMeasured` where it isn't after a while: what was purged in masses may need a moment."""
    for edge in (sides.ours, sides.bare):
        end_s = time.monotonic() + _STORED_S
        while not await asyncio.to_thread(is_hit, sides.cache, edge, OBJECT):
            if time.monotonic() > end_s:
                raise NotMeasured(f"{OBJECT} should be a hit at {edge.url}")
            await asyncio.sleep(0.05)


def is_hit(cache: Cache, edge: CacheEdge, path: str) -> bool:
    """By a request on a connection of its own."""
    with closing(http.client.HTTPConnection(edge.host)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return cache.is_hit(answer.headers)


# Purges of URLs


async def _purges(sides: Sides) -> list[Figure]:
    cache, loop, numbers = sides.cache, asyncio.get_running_loop(), itertools.count()

    def urls(part: int) -> list[str]:  # no two alike
        return [f"{sides.ours.host}/albums/2026/{next(numbers)}.jpg" for _ in range(sides.scale.purges_driven // part)]

    def ours() -> float:
        selectors = [Selector(Kind.URL, url) for url in urls(1)]
        return len(selectors) / asyncio.run_coroutine_threadsafe(sides.agent.purge(selectors), loop).result()

    def other(peer: Peer) -> float:
        part = urls(peer.part)
        return len(part) / peer.took_s(sides.ours, sides.bare, part)

    samples = await sides.in_turn({"agent": ours, **{name: partial(other, peer) for name, peer in cache.peers.items()}})
    what = f"{cache.title}: URL purges/s, log to confirmed, one agent"
    figures = [beside(what, samples, "agent", name, peer.told, peer.limit) for name, peer in cache.peers.items()]
    rate = statistics.median(samples["agent"])
    return [*figures, Figure(what, rate, "/s", "", cache.purges, "median", {"agent": samples["agent"]})]


# Prefixes


async def _prefix(sides: Sides) -> Figure:
    objects, cache = sides.scale.cached, sides.cache
    requests = [f"GET /p/{number % FOLDERS}/{number} HTTP/1.1\r\nHost: {sides.ours.host}\r\n\r\n".encode() for number in range(objects)]
    await asyncio.to_thread(raw.took_s, sides.ours.host, requests, _FILLED_BY)
    took_ms = []
    for number in range(_PREFIXES):
        await _expect(sides, f"/p/{number}/{number}", hit=True)
    for number in range(_PREFIXES):
        took_ms.append(1000 * await sides.agent.purge([Selector(Kind.PREFIX, f"{sides.ours.host}/p/{number}/")]))
        await _expect(sides, f"/p/{number}/{number}", hit=False)
    what = f"{cache.title}: purge of a prefix with 1 % of {objects:,} objects, log to confirmed, p50"
    detail = f"p95 {percentile(took_ms, 0.95):.2f} ms"
    return Figure(what, percentile(took_ms, 0.5), "ms", "", cache.prefix, detail, {"ms": took_ms})


async def _expect(sides: Sides, path: str, *, hit: bool) -> None:
    tries = _TRIES if hit else 1  # it may not have been stored while others were
    found = [await asyncio.to_thread(is_hit, sides.cache, sides.ours, path) for _ in range(tries)][-1]
    if found is not hit:
        raise NotMeasured(f"{path} should be a {'hit' if hit else 'miss'} at {sides.ours.url}")


# Peers


def by_purge(connections: int) -> Callable[[CacheEdge, CacheEdge, Sequence[str]], float]:
    """The stock PURGE of the cache without us, by a raw client."""

    def took_s(ours: CacheEdge, bare: CacheEdge, urls: Sequence[str]) -> float:  # noqa: ARG001 - a Peer's
        requests = [f"PURGE /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for host, _, path in (url.partition("/") for url in urls)]
        return raw.took_s(bare.host, requests, connections)

    return took_s
