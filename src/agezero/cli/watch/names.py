"""From the name of a file to what has to be purged."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from urllib.parse import quote, urlsplit

from agezero.cli.output import CommandFailed, Exit
from agezero.cli.targets import Target

INDEX = "index.html"
_PLAIN = "!$&'()+,;=:@~"
"""Characters of a path that one client escapes and the next does not (RFC 3986 §3.3), so both spellings are purged. ``*`` is a wildcard."""


def base_of(prefix: str) -> str:
    """The URL of the directory, with a slash at its end. Raises :class:`CommandFailed`."""
    try:
        parts = urlsplit(prefix)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment or "*" in prefix:
        raise CommandFailed(Exit.USAGE, f"{prefix!r} is no URL of a directory", "expected something like https://www.example.com/media/")
    return prefix if prefix.endswith("/") else prefix + "/"


def targets(base: str, paths: Iterable[str], *, queries: bool = False) -> Iterator[Target]:
    """What to purge for files that changed. ``queries``: also with any query."""
    for path in paths:
        folder, _, name = path.rpartition("/")
        yield from _urls(base, path, queries=queries)
        if name == INDEX:
            yield from _urls(base, folder + "/" if folder else "", queries=queries)
            if folder:
                yield from _urls(base, folder, queries=queries)


def _urls(base: str, path: str, *, queries: bool) -> Iterator[Target]:
    raw = os.fsencode(path)
    for safe in ("", _PLAIN) if quote(raw, "/") != quote(raw, "/" + _PLAIN) else (_PLAIN,):
        url = base + quote(raw, "/" + safe)
        yield Target("urls", url)
        if queries:
            yield Target("prefixes", url + "?")
    if b"*" in raw:  # unescaped, it can't be named but by a prefix
        yield Target("prefixes", base + quote(raw.partition(b"*")[0], "/" + _PLAIN))
