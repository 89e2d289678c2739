"""Tags as the headers of responses can name them, for drivers whose cache records them itself."""

from __future__ import annotations

from collections.abc import Iterable

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind

_MARKS = frozenset('"\\')
"""What quotes in a list of strings (Cache-Groups, RFC 9875), so no tag that a cache reads there has it."""


def as_read(purges: Iterable[Purge]) -> list[Purge]:
    """A tag that a cache would read otherwise than it was meant becomes everything."""
    return [Purge(purge.seq, EVERYTHING) if purge.selector.kind is Kind.TAG and _MARKS & set(purge.selector.value) else purge for purge in purges]
