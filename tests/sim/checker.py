"""The invariants of the design, checked after every step with what only the simulation knows: the true time of everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agezero.core.follower import Follower
from agezero.core.ledger import Ledger
from agezero.core.selector import Kind, Selector
from sim.origin import NAMED, TAGS, URLS, Body
from sim.world import Violation, World

if TYPE_CHECKING:
    from sim.cache import Cache
    from sim.shells import Disk, Edge

STEPS_MAX = 12
"""Steps a follower may have under way: its window, a probe, a lease and what timed out."""


class Checker:
    """``barriers_s``: when the newest purge of a URL was accepted of those whose Completed could be read: of all that it has ("") and of each tag."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.caches: list[Cache] = []
        self.promised: set[str] = set()
        self.barriers_s = {url: dict.fromkeys(("", *sorted(TAGS[url])), -1.0) for url in URLS}
        self.completed = 0
        self.purges: list[tuple[int, float, tuple[str, ...], str]] = []  # seq, when accepted, the URLs that it may name, a tag
        self._next = 0
        self._tokens: dict[str, int] = {}
        self._saved: dict[int, tuple[Disk, int]] = {}

    # honest

    def accepted(self, seq: int, selector: Selector) -> None:
        """The purge is durable, and whoever sent it may know."""
        self.world.note(f"accepted {seq} {selector}")
        self.purges.append((seq, self.world.now_s, NAMED[selector], selector.value if selector.kind is Kind.TAG else ""))

    def lost(self, kept: int, head: int) -> None:
        """The log went back to a backup: entries after ``kept`` are gone. Their Completed must be honest all the same."""
        if head > kept:
            self.world.mark("acknowledged entries lost with a backup")

    def status(self, ledger: Ledger) -> None:
        """What a client could read now."""
        if not ledger.recovered:
            self.world.mark("status not known yet")
            return
        if ledger.completed < self.completed:
            raise Violation("monotone", f"completed fell from {self.completed} to {ledger.completed}")
        if ledger.completed == self.completed:
            return
        self.completed = ledger.completed
        self.world.note(f"completed {self.completed}")
        while self._next < len(self.purges) and self.purges[self._next][0] <= self.completed:
            _, at_s, urls, tag = self.purges[self._next]
            self._next += 1
            for url in urls:
                self.barriers_s[url] = {**self.barriers_s[url], tag: at_s}
        for cache in self.caches:
            self.audit(cache)

    def audit(self, cache: Cache) -> None:
        """Every request that could arrive now, at once."""
        if not cache.fences and cache.name not in self.promised:
            return
        for url, body in cache.visible():
            self.response(cache.name, url, body, self.barriers_s[url])

    def response(self, name: str, url: str, body: Body, barriers_s: Mapping[str, float]) -> None:
        """``barriers_s`` as they were when the request was sent."""
        barrier_s = max(at_s for tag, at_s in barriers_s.items() if not tag or tag in body.tags)
        if body.began_s < barrier_s:
            raise Violation("honest", f"{name} serves {url} version {body.version} fetched at {body.began_s:.3f}, purged at {barrier_s:.3f}")

    # no loss, monotone watermark

    def saved(self, edge: Edge, disk: Disk, watermark: int) -> None:
        """An edge vouches for everything up to ``watermark``: it must be in its table and its cache."""
        _, before = self._saved.get(id(disk), (disk, 0))
        if watermark < before and not disk.rolled_back:
            raise Violation("monotone", f"the watermark of {edge.name} fell from {before} to {watermark}")
        self._saved[id(disk)] = (disk, watermark)
        disk.rolled_back = False
        for seq, at_s, urls, _ in self.purges:
            if before < seq <= watermark:
                for url in urls:
                    self._applied(edge, disk, seq, at_s, url)

    def _applied(self, edge: Edge, disk: Disk, seq: int, at_s: float, url: str) -> None:
        cache = edge.cache
        if disk is not edge.disk:  # of an agent that was replaced: what it vouches for is refused, but its own table must hold it
            applied = not edge.has_table or disk.table.newest(url) >= seq
        elif edge.has_table:
            applied = disk.table.newest(url) >= seq and (not cache.loaded or not cache.up or cache.newest(url) >= seq)
        else:
            relevant = cache.up and (cache.loaded or not cache.fences)
            applied = not relevant or all(body.began_s >= at_s for key in cache.store if key[1] == url and (body := cache.find(key)))
        if not applied:
            raise Violation("no loss", f"{edge.name} has saved a watermark beyond {seq}, which was not applied to {url}")

    # single applier

    def written(self, cache: Cache, token: int) -> None:
        """The cache takes a write under this token."""
        if token < cache.token:
            raise Violation("single applier", f"{cache.name} took a write with token {token}, after {cache.token}")

    def reported(self, name: str, token: int) -> None:
        """The ledger takes a watermark under this token."""
        if token < self._tokens.get(name, 0):
            raise Violation("single applier", f"the ledger took a report of {name} with token {token}, after {self._tokens[name]}")
        self._tokens[name] = token

    # bounded

    def followed(self, name: str, follower: Follower) -> None:
        """After each event."""
        if len(follower._batches) > follower.limits.window or len(follower._expected) > STEPS_MAX:
            raise Violation("bounded", f"{name} has {len(follower._batches)} batches and {len(follower._expected)} steps under way")
