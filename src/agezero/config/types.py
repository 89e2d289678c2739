"""What settings are made of."""

from __future__ import annotations

from typing import Annotated

import msgspec

NUMBER_MAX = 10**15
"""More is a slip, and nginx takes no numbers of any length."""
SECONDS_MAX = 366 * 86_400.0
"""A year: infinity is no time that anything here could wait for."""
Count = Annotated[int, msgspec.Meta(ge=0, le=NUMBER_MAX)]
Positive = Annotated[int, msgspec.Meta(ge=1, le=NUMBER_MAX)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=SECONDS_MAX)]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A group of settings that tolerates no unknown name."""
