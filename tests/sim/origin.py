"""The origin: content with versions, sometimes slow. And the few URLs there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agezero.core.selector import EVERYTHING, Kind, Selector
from sim.network import Network
from sim.world import Actor, Call, World

URLS = ("a.example.com/x/1", "a.example.com/x/2?q=1", "a.example.com/y", "b.example.com/x/1")
TAGS = {URLS[0]: frozenset({"red"}), URLS[1]: frozenset[str](), URLS[2]: frozenset({"red", "blue"}), URLS[3]: frozenset({"blue"})}
"""What tags a URL's responses may have. A purge of a tag names those that have it."""
VARIANTS = ("gzip", "br")
SELECTORS = (
    *(Selector(Kind.URL, url) for url in URLS),
    *(Selector(Kind.URL, url) for url in URLS),
    *(Selector(Kind.URL, url) for url in URLS),
    Selector(Kind.PREFIX, "a.example.com/x/"),
    Selector(Kind.PREFIX, "a.example.com/x/1"),
    Selector(Kind.PREFIX, "a.example.com/"),
    Selector(Kind.PREFIX, "b.example.com/x"),
    Selector(Kind.HOST, "a.example.com"),
    Selector(Kind.HOST, "b.example.com"),
    Selector(Kind.TAG, "red"),
    Selector(Kind.TAG, "blue"),
    EVERYTHING,
)
TAGGED = tuple(selector for selector in SELECTORS if selector.kind is Kind.TAG)
NAMED = {selector: tuple(url for url in URLS if selector.matches(url, TAGS[url])) for selector in SELECTORS}
"""Which URLs each selector may name."""


@dataclass(frozen=True, slots=True)
class Body:
    """A response: the origin's version, when the fetch from the origin began (true time), and the tags that it has."""

    version: int
    began_s: float
    tags: frozenset[str]


def tags_of(url: str, version: int, variant: str) -> frozenset[str]:
    """One of a URL's tags or none is missing, in turn, and another one in the other variant."""
    tags = sorted(TAGS[url])
    return frozenset(tag for number, tag in enumerate(tags) if number != (version + VARIANTS.index(variant)) % (len(tags) + 1))


class Origin(Actor):
    """Answers each fetch with the version it has when the request arrives, after a while."""

    def __init__(self, world: World, network: Network, slow: float) -> None:
        super().__init__(world, "origin")
        self.network = network
        self.slow = slow
        self.versions = dict.fromkeys(URLS, 1)

    def change(self, selector: Selector) -> None:
        for url in NAMED[selector]:
            self.versions[url] += 1

    def serve(self, source: Actor, life: int, url: str, variant: str, began_s: float, call: Call, *args: Any) -> None:
        """The answer comes as ``call(*args, body)`` to this life of ``source``."""
        chance = self.world.work
        version = self.versions[url]
        body = Body(version, began_s, tags_of(url, version, variant))
        delay_s = chance.between(0.1, 2.0) if chance.chance(self.slow) else chance.between(0.001, 0.05)
        self.network.pass_on(source, delay_s, "the origin answers", call, *args, body, life=life)
