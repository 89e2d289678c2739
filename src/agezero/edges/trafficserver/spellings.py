"""The URLs that Traffic Server takes for the one that was purged.

It drops an empty query (``/a?``), an empty parameter (``/a;``) and all but the first slash at the start of a path (``//a``), before our script
or the origin sees the request. So what such a URL names is stored, and looked up, as a URL without them, and a purge has to reach both. A prefix may
name URLs that lose what it ends in. (Measured on 9.2. Where more is purged than was named, that is the wider side.)
"""

from __future__ import annotations

from agezero.core.selector import Kind, Selector, authority_of

SLASHES_MAX = 4
"""At the start of a path, with more a URL is widened to the whole host's."""


def spellings(selector: Selector) -> list[Selector]:
    """The selector itself first, then what Traffic Server makes of it."""
    match selector.kind:
        case Kind.URL:
            return [selector, *_urls(selector.value)]
        case Kind.PREFIX:
            return [selector, *_prefixes(selector.value)]
        case _:
            return [selector]


def _urls(value: str) -> list[Selector]:
    authority, path, mark, query = _split(value)
    slashes = len(path) - len(path.lstrip("/"))
    if slashes > SLASHES_MAX:
        return [Selector(Kind.PREFIX, authority + "/")]
    cut = [path[i:] for i in range(slashes)]
    paths = [one for path in cut for one in (path, _without_parameter(path))]
    texts = {authority + path + tail for path in paths for tail in {mark + query, mark + query if query else ""}} - {value}
    return [Selector(Kind.URL, text) for text in sorted(texts)]


def _prefixes(value: str) -> list[Selector]:
    authority, path, mark, query = _split(value)
    if path.startswith("//"):
        return [Selector(Kind.PREFIX, authority + "/")]
    plain = _without_parameter(path)
    found: list[Selector] = []
    if plain != path:  # "/a;" and "/a;?q" are "/a" and "/a?q"
        found.append(Selector(Kind.PREFIX, f"{authority}{plain}?{query}"))
    if (plain != path and not mark) or (mark and not query):
        found += [Selector(Kind.URL, authority + text) for text in sorted({path, plain})]
    return found


def _split(value: str) -> tuple[str, str, str, str]:
    authority = authority_of(value)
    return authority, *value[len(authority) :].partition("?")


def _without_parameter(path: str) -> str:
    """Only where the first ";" is the last character of the path, so that there is nothing in it."""
    return path[:-1] if path.find(";") == len(path) - 1 else path
