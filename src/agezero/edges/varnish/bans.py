"""Keeps the number of bans small that an object may have to be compared with.

Varnish compares an object at its next hit with every ban since the last, and a hundred thousand of them would be felt. So bans are merged
where one covers the other, and beyond a number of narrow ones a wider one takes their place. A ban that is repeated word for word costs nothing:
Varnish marks the earlier one as done.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agezero.core.selector import EVERYTHING, Kind, Selector, authority_of

PREFIXES_MAX = 1000
HOSTS_MAX = 100
LIVE_S = 60.0
"""As long a ban is counted. Varnish's lurker begins to deal with those that are older than 60 s (parameter ban_lurker_age)."""


class Bans:
    """Those of the last minute."""

    def __init__(self) -> None:
        self._live: dict[Selector, float] = {}

    def plan(self, selectors: Iterable[Selector], now_s: float) -> list[Selector]:
        """The prefixes, hosts and everything to be banned for ``selectors``: all they name, and as few as there may be."""
        self._live = {selector: issued_s for selector, issued_s in self._live.items() if now_s - issued_s < LIVE_S}
        planned = merged(selectors)
        for kind, most in ((Kind.PREFIX, PREFIXES_MAX), (Kind.HOST, HOSTS_MAX)):
            planned = self._bounded(planned, kind, most)
        self._live.update(dict.fromkeys(planned, now_s))
        return planned

    def count(self) -> int:
        """How many of the last minute are different."""
        return len(self._live)

    def _bounded(self, planned: list[Selector], kind: Kind, most: int) -> list[Selector]:
        live = sum(selector.kind is kind for selector in self._live)
        new = [selector for selector in planned if selector.kind is kind and selector not in self._live]
        if live + len(new) <= most:
            return planned
        too_many = set(new[max(0, most - live) :])
        return merged(_wider(selector) if selector in too_many else selector for selector in planned)


def merged(selectors: Iterable[Selector]) -> list[Selector]:
    """Without those that another one covers."""
    distinct = set(selectors)
    if EVERYTHING in distinct:
        return [EVERYTHING]
    hosts = {selector.value for selector in distinct if selector.kind is Kind.HOST}
    prefixes = sorted(selector.value for selector in distinct if selector.kind is Kind.PREFIX and authority_of(selector.value) not in hosts)
    return [*(Selector(Kind.HOST, host) for host in sorted(hosts)), *(Selector(Kind.PREFIX, prefix) for prefix in _shortest(prefixes))]


def _shortest(prefixes: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for prefix in prefixes:
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept


def _wider(selector: Selector) -> Selector:
    return Selector(Kind.HOST, authority_of(selector.value)) if selector.kind is Kind.PREFIX else EVERYTHING
