"""Clients: they change content and purge it, poll, and read through the edges."""

from __future__ import annotations

from collections.abc import Mapping

from agezero.core.selector import Selector
from sim.cache import Cache
from sim.checker import Checker
from sim.control import Control
from sim.network import Network
from sim.origin import SELECTORS, TAGGED, URLS, VARIANTS, Body, Origin
from sim.world import Actor, Stream, Violation, World

NOTHING = {"": -1.0}
"""Was purged before this."""


class Clients(Actor):
    """``acknowledged``: every seq that was answered 201. ``rate``: how many things they do in a second."""

    def __init__(self, world: World, network: Network, checker: Checker, control: Control, origin: Origin, caches: list[Cache]) -> None:
        super().__init__(world, "clients")
        self.network, self.checker, self.control, self.origin, self.caches = network, checker, control, origin, caches
        self.acknowledged: list[int] = []
        self.seen_completed: dict[int, int] = {}
        self.asked = 0
        self.answers = 0
        self.tags = Stream(world.seed, "clients of tags")
        self.tagged = self.tags.pick((0.0, 0.3, 0.6))
        self.purge_s = world.work.pick((0.2, 0.5, 1.0, 3.0))
        self.read_s = world.work.between(0.05, 0.3)

    def start(self) -> None:
        self._work("read", self._read, self.read_s)
        self._work("purge", self._purge, self.purge_s)
        self._work("poll", self._poll, 0.6)
        self.after(1.0, "read all", self.read_all)

    def _work(self, label: str, call: object, mean_s: float) -> None:
        assert callable(call)
        if self.world.faulty:
            call()
            self.after(self.world.work.between(0.2 * mean_s, 1.8 * mean_s), label, self._work, label, call, mean_s)

    def _purge(self) -> None:
        selector = self.world.work.pick(SELECTORS)
        self.purge(self.tags.pick(TAGGED) if self.tags.chance(self.tagged) else selector)

    def purge(self, selector: Selector) -> None:
        """New content, then a purge of the old."""
        self.origin.change(selector)
        self.asked += 1
        self.network.send(self, self.control, "POST", self.control.post, self, self.asked, selector)

    def accepted(self, number: int, seq: int | None) -> None:  # noqa: ARG002
        if seq is not None:
            self.acknowledged.append(seq)

    def _poll(self) -> None:
        if self.acknowledged:
            self.asked += 1
            seq = self.acknowledged[-1 - min(self.world.work.below(6), len(self.acknowledged) - 1)]
            self.network.send(self, self.control, "GET", self.control.get, self, self.asked, seq)

    def polled(self, number: int, seq: int, status: bool | None) -> None:
        """A poll sent after Completed was read must not read Pending."""
        if status:
            self.seen_completed.setdefault(seq, self.asked)
        elif status is False and number > self.seen_completed.get(seq, number):
            raise Violation("monotone", f"a client read Completed, then Pending for purge {seq}")

    def _read(self) -> None:
        chance = self.world.work
        self.read(chance.pick(self.caches), chance.pick(URLS), chance.pick(VARIANTS))

    def read_all(self) -> None:
        """Everything at every edge."""
        for cache in self.caches:
            for url in URLS:
                for variant in VARIANTS:
                    self.read(cache, url, variant)

    def read(self, cache: Cache, url: str, variant: str) -> None:
        promised = cache.fences or cache.name in self.checker.promised
        barriers_s = self.checker.barriers_s[url] if promised else NOTHING
        delay_s = self.world.network.between(0.001, 0.02)
        self.network.pass_on(
            cache, delay_s, "request", cache.serve, self, self.life, url, variant, self.world.now_s, self._response, cache.name, url, barriers_s
        )

    def _response(self, name: str, url: str, barriers_s: Mapping[str, float], body: Body) -> None:
        self.answers += 1
        self.checker.response(name, url, body, barriers_s)
