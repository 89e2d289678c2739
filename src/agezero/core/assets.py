"""An asset: a file with all its transformations, in the forms of ImageKit's URLs.

    ENDPOINT/photos/cat.jpg                  the file          ENDPOINT/photos/cat.jpg?tr=w-100           a transformation in the query
    ENDPOINT/tr:w-100/photos/cat.jpg         in the path       ENDPOINT/photos/tr:w-100/cat.jpg           in the path, after a URL pattern
    ENDPOINT/ik-seo/photos/cat/words.jpg     with an SEO name  ENDPOINT/photos/cat.mp4/ik-thumbnail.jpg   made of a video

One prefix takes the file with all that follows its name. A transformation in the path stands *before* the name, so no prefix singles the file out:
each level of the path where one can stand is purged from ``tr:`` on, with the transformations of every other file there. That is wider than
asked for, and said so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agezero.core.endpoint import Endpoint
from agezero.core.selector import Kind, Selector

_MARKS = ("tr:", "tr%3A")
"""How a transformation in the path begins; an origin may undo the escape, so both are purged."""
_SEO = "ik-seo/"


def asset_selectors(file: Selector, endpoints: Sequence[Endpoint]) -> Iterator[Selector]:
    """All that the file's URL can become, under each of ``endpoints`` that covers it. ``file``: of the kind url."""
    path = file.value.partition("?")[0]
    yield Selector(Kind.PREFIX, path)
    for endpoint in endpoints:
        if endpoint.covers(Selector(Kind.URL, path)):
            yield from _in_path(str(endpoint), path.removeprefix(str(endpoint)))


def _in_path(root: str, rest: str) -> Iterator[Selector]:
    for level, below in _levels(root, rest):
        for mark in _MARKS:
            yield Selector(Kind.PREFIX, level + mark)
            yield Selector(Kind.PREFIX, level + _SEO + mark)
        stem, dot, extension = below.rpartition(".")
        if dot and "/" not in extension:
            yield Selector(Kind.PREFIX, f"{level}{_SEO}{stem}/")


def _levels(level: str, below: str) -> Iterator[tuple[str, str]]:
    """Every folder above the file, with the rest of the path below it: a URL pattern may be as deep as any."""
    yield level, below
    while "/" in below:
        folder, _, below = below.partition("/")
        level = f"{level}{folder}/"
        yield level, below
