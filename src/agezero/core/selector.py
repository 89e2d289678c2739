"""What a purge names: one URL, a prefix, a tag, a host or everything.

A selector's ``value`` is canonical text (see :mod:`agezero.core.canonical`), so two selectors that mean the same are equal.
Widening only ever adds to what a selector matches: any doubt makes a purge wider, never narrower.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agezero.core.canonical import InvalidUrl, canonical_authority, canonical_target, split_url


class Kind(StrEnum):
    """The five kinds, narrow to wide."""

    URL = "url"
    PREFIX = "prefix"
    TAG = "tag"
    HOST = "host"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Selector:
    """``value``: url ``host/path?query`` · prefix ``host/path…`` · tag as given · host ``host[:port]`` · everything ``""``."""

    kind: Kind
    value: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.value}".rstrip()

    def matches(self, url: str, tags: frozenset[str] = frozenset()) -> bool:
        """Does this selector name the object stored for the canonical ``url`` with these ``tags``?"""
        match self.kind:
            case Kind.URL:
                return url == self.value
            case Kind.PREFIX:
                return url.startswith(self.value)
            case Kind.TAG:
                return self.value in tags
            case Kind.HOST:
                return authority_of(url) == self.value
            case Kind.EVERYTHING:
                return True


EVERYTHING = Selector(Kind.EVERYTHING, "")


class WildcardMisplaced(InvalidUrl):
    """A ``*`` stands somewhere else than at the end of the URL."""


def parse_url(text: str) -> Selector:
    """A plain URL, or a prefix where the text ends in ``*`` (ImageKit's wildcard). Raises :class:`InvalidUrl`.

    Spaces around it are no part of it, as in browsers: kept, they would name another URL than the one that is fetched.
    """
    authority, target = split_url(text.strip(" "))
    if "*" not in authority + target:
        return Selector(Kind.URL, canonical_authority(authority) + canonical_target(target))
    if (authority + target).count("*") > 1 or not target.endswith("*"):
        raise WildcardMisplaced("a wildcard * may stand only at the end of the URL's path or query")
    return Selector(Kind.PREFIX, canonical_authority(authority) + canonical_prefix(target[:-1]))


def canonical_prefix(target: str) -> str:
    """Canonical form of the beginning of a request target; an escape cut in half at its end is left off (wider)."""
    for tail in (target[-1:], target[-2:]):
        if tail.startswith("%"):
            target = target[: -len(tail)]
            break
    return canonical_target(target)


def authority_of(url: str) -> str:
    """The ``host[:port]`` of a canonical URL or prefix."""
    return url.partition("/")[0]


def widen(selector: Selector) -> Selector:
    """The next wider selector, for an edge that cannot do this one: url → its prefix, prefix → its host, all else → everything."""
    match selector.kind:
        case Kind.URL:
            return Selector(Kind.PREFIX, selector.value)
        case Kind.PREFIX:
            return Selector(Kind.HOST, authority_of(selector.value))
        case Kind.TAG | Kind.HOST | Kind.EVERYTHING:
            return EVERYTHING
