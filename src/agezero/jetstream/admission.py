"""What an agent may put on the board by joining: nothing that no setting allows, and not so much that the board is full."""

from __future__ import annotations

from collections.abc import Sequence

from agezero.config.checks import EDGE_NAME
from agezero.config.edges import TIER_MAX
from agezero.ports import LeaseRefused

EDGES_MAX = 2_000
"""On record whose names have the same first part (``HOST`` of ``HOST.EDGE``), but for those that a person has removed."""
WORDS_MAX = 32
WORD_MAX = 64
"""Characters of one word of what an edge does."""


def check_join(edge: str, tier: int, lease_s: float | None, does: Sequence[str]) -> None:
    """Raises :class:`LeaseRefused`."""
    refusals = {
        f"the edge's name {edge[:80]!r} is not valid; expected a letter, then at most 62 letters, digits, dots, dashes or underscores": (
            not EDGE_NAME.fullmatch(edge)
        ),
        f"tier {tier} is not valid; expected 0 to {TIER_MAX}": not 0 <= tier <= TIER_MAX,
        f"a lease of {lease_s} s is not valid; expected more than 0": lease_s is not None and not lease_s > 0,
        f"{len(does)} words on what the edge does; expected at most {WORDS_MAX}": len(does) > WORDS_MAX,
        f"a word on what the edge does is too long; expected at most {WORD_MAX} characters": any(len(word) > WORD_MAX for word in does),
    }
    for reason, refused in refusals.items():
        if refused:
            raise LeaseRefused(reason)


def check_room(edge: str, siblings: int) -> None:
    """``siblings``: how many are on record, where ``edge`` is not yet. Raises :class:`LeaseRefused`."""
    if siblings >= EDGES_MAX:
        host = edge.partition(".")[0]
        raise LeaseRefused(f"{siblings} edges of {host!r} are on record, and no more than {EDGES_MAX} may be; remove those that are gone for good")
