"""Endpoints: the part of the web that a key may purge.

An endpoint is an authority and a path, as in ``https://cdn.example.com/site``. A purge is under it when its canonical authority is the same and
its canonical path goes on from the endpoint's at a segment boundary. The canonical form matters: ``/site/%2e%2e/other`` is not under ``/site``.
"""

from __future__ import annotations

from dataclasses import dataclass

from agezero.core.canonical import InvalidUrl, canonical_url
from agezero.core.selector import Kind, Selector, authority_of


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``authority`` is canonical; ``path`` is canonical and has no trailing slash, so the whole host is ``""``."""

    authority: str
    path: str

    def __str__(self) -> str:
        return f"{self.authority}{self.path}/"

    def covers(self, selector: Selector) -> bool:
        """Is all that this url or prefix selector can match under the endpoint?"""
        if selector.kind not in (Kind.URL, Kind.PREFIX) or authority_of(selector.value) != self.authority:
            return False
        target = selector.value[len(self.authority) :]
        if not target.startswith(self.path):
            return False
        rest = target[len(self.path) :]
        return rest[:1] in ("/", "?") or (not rest and selector.kind is Kind.URL)  # the prefix /site also names /sitemap


def parse_endpoint(text: str) -> Endpoint:
    """``https://Example.com/site/`` → authority ``example.com``, path ``/site``. Raises :class:`InvalidUrl`."""
    if "?" in text or "*" in text:
        raise InvalidUrl("an endpoint has neither a query nor a wildcard; expected a URL such as https://cdn.example.com/site")
    url = canonical_url(text)
    authority = authority_of(url)
    return Endpoint(authority, url[len(authority) :].rstrip("/"))
