"""What agezero.vcl calls a URL: its key for xkey, its counters, and the expression that finds it. The same rules stand there a second time.

Varnish keeps an object under the spelling that was asked for; a purge names the canonical one. So what both sides compute from it, the
*bones*, leaves out escapes and whatever would have to be escaped: it is the same for each spelling. Two URLs that differ only there share their
bones, and are purged together. Spellings that this doesn't reach (escapes of unreserved characters, dot segments, fragments) are never stored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from agezero.core.selector import Kind, Selector

PREFIX_CHARS_MAX = 1000
"""Longer ones are cut, which is wider: an expression has to fit into a header."""

_LEFT_OUT = re.compile(r"%[0-9A-Fa-f]{2}|[^A-Za-z0-9\-._~!$&'()*+,;=:@/?]")
_FOLDER = re.compile(r"[^/]*/[^/?]*/")
_URL_COUNTERS, _FOLDER_COUNTERS = 10**5, 10**4
_TAG = re.compile(r"[\x21\x23-\x2b\x2d-\x7e]{1,200}")


def bones(url: str) -> str:
    """The part of a URL that all its spellings share."""
    return _LEFT_OUT.sub("", url)


def key(text: str) -> int:
    """As Varnish's ``shard.key``; the driver asks Varnish for one and compares, because another version may do it in another way."""
    return int.from_bytes(hashlib.sha256(text.encode("ascii")).digest()[28:], "little")


def url_names(url: str) -> tuple[str, str]:
    """Key for xkey and name of the counter of a canonical URL."""
    number = key(bones(url))
    return f"az{number}", f"{number % _URL_COUNTERS:05}"


def counter(selector: Selector) -> str:
    """The counter that a purge of a prefix, a host or everything moves: the narrowest that every URL it names looks at."""
    if selector.kind is Kind.EVERYTHING:
        return "e"
    host = selector.value.partition("/")[0] + "/"
    folder = _FOLDER.match(bones(selector.value)) if selector.kind is Kind.PREFIX else None
    name = "p" if folder else "h"
    return f"{name}{key(folder[0] if folder else bones(host)) % _FOLDER_COUNTERS:04}"


def ban(selector: Selector) -> str:
    """The ban for a prefix, a host or everything. It consists of letters, digits and a few signs without a meaning to the ban's own syntax."""
    match selector.kind:
        case Kind.EVERYTHING:
            return "obj.status != 0"
        case Kind.HOST:
            return f"obj.http.AgeZero-Url ~ ^{_expression(selector.value + '/')}"
        case Kind.PREFIX:
            return f"obj.http.AgeZero-Url ~ ^{_expression(selector.value[:PREFIX_CHARS_MAX])}"
        case _:
            raise ValueError(f"there is no ban for {selector}")


def key_ban(keys: Iterable[str]) -> str:
    """The ban for objects with one of the keys of :func:`url_names`."""
    return f"obj.http.AgeZero-Key ~ ^(?:{'|'.join(key.removeprefix('az') for key in keys)})$"


def tag_ban(tags: Iterable[str]) -> str:
    """The ban for objects with one of the keys of :func:`tag_key`."""
    literal = "|".join(re.sub(r"[^A-Za-z0-9]", lambda match: f"\\x{ord(match[0]):02X}", tag) for tag in tags)
    return rf"obj.http.X-HashTwo ~ (?:^|\x20)(?:{literal})(?:\x20|$)"


def tag_key(tag: str) -> str | None:
    """The key of a tag for xkey; None where it can't be one."""
    return tag if _TAG.fullmatch(tag) else None


def _expression(text: str) -> str:
    """Matches each spelling of the canonical ``text`` that may be stored. An escape that was cut at the end is left off, which is wider."""
    text = re.sub(r"%[0-9A-F]?$", "", text)
    return re.sub(r"%([0-9A-F]{2})|[^A-Za-z0-9]", _either, text)


def _either(match: re.Match[str]) -> str:
    if match[1] is None:
        return f"\\x{ord(match[0]):02X}"
    digits = "".join(f"[{digit}{digit.lower()}]" if digit.isalpha() else digit for digit in match[1])
    return f"(?:\\x25{digits}|\\x{match[1]})"
