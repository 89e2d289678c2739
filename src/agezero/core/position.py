"""What an agent knows at its start: how far it has come. The stores that keep it need nothing else of the follower."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """What was saved: everything up to ``watermark`` of log ``epoch`` is in the table. ``doubt`` says why that can't be relied on."""

    watermark: int = 0
    epoch: str = ""
    doubt: str = ""
