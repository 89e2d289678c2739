"""Which wildcards are allowed: ImageKit's rules, or any.

ImageKit allows a wildcard only where it can't match too much. One of these has to hold for the text between the authority and the ``*``
(the contract, "Purge semantics"): it has at least two path levels, or at least 15 characters, or it ends in a complete file name with extension.
"""

from __future__ import annotations

import re
from enum import StrEnum

from agezero.core.selector import Kind, Selector, authority_of

LEVELS_MIN = 2
PATH_CHARACTERS_MIN = 15

_FILE_NAME = re.compile(r"/[^/]+\.[A-Za-z0-9]+")


class Wildcards(StrEnum):
    """The setting ``wildcards``."""

    IMAGEKIT = "imagekit"
    ANY = "any"


def broken_rule(selector: Selector, wildcards: Wildcards) -> str | None:
    """None when the selector is allowed, else what is wrong with its wildcard and what would be allowed."""
    if selector.kind is not Kind.PREFIX or wildcards is Wildcards.ANY:
        return None
    path = selector.value[len(authority_of(selector.value)) :].partition("?")[0]
    if _levels(path) >= LEVELS_MIN or len(path) >= PATH_CHARACTERS_MIN or _FILE_NAME.fullmatch(path[path.rfind("/") :]):
        return None
    return (
        f"the wildcard in {path + '*'!r} matches too much: it has {_levels(path)} path level(s) and {len(path)} characters; expected at least "
        f"{LEVELS_MIN} levels (/a/b*), or at least {PATH_CHARACTERS_MIN} characters, or a complete file name with extension (/sample.jpg*)"
    )


def _levels(path: str) -> int:
    return sum(1 for segment in path.split("/") if segment)
