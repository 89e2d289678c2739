"""Times as a person writes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import typer

from agezero.cli.output import CommandFailed, Exit

SECONDS_MAX = 10 * 366 * 86_400
"""Ten years: as long as the API lets a key be valid."""
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPANS_S = {"ms": 0.001, "": 1.0} | {unit: float(s) for unit, s in _UNITS_S.items()}


def seconds(text: str) -> int:
    """``15m`` → 900. Raises :class:`CommandFailed`."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if match is None:
        raise CommandFailed(Exit.USAGE, f"{text!r} is not a time", "expected a whole number and a unit: 30s, 15m, 24h or 7d")
    value = int(match[1]) * _UNITS_S[match[2]]
    if value > SECONDS_MAX:
        raise CommandFailed(Exit.USAGE, f"{text!r} is too long", f"expected at most ten years, {SECONDS_MAX // 86_400}d")
    return value


def span(text: str | float) -> float:
    """``1.5m`` → 90.0; without a unit it is seconds. For an option; raises its ``BadParameter``."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|)", str(text))
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a time; expected a number and a unit: 500ms, 60s, 5m or 1h")
    return float(match[1]) * _SPANS_S[match[2]]


def moment(text: str) -> datetime:
    """``24h`` (ago) or ``2026-01-31T12:00:00Z``, in UTC. For an option; raises its ``BadParameter``."""
    now = datetime.now(UTC)
    try:
        if match := re.fullmatch(r"([0-9]{1,9})([smhd])", text):
            return datetime.fromtimestamp(now.timestamp() - int(match[1]) * _UNITS_S[match[2]], UTC)
        given = datetime.fromisoformat(text)
        return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{text!r} is no moment; expected how long ago (30m, 24h, 7d) or a time such as 2026-01-31T12:00:00Z") from None
