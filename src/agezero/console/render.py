"""HTML from templates, and the headers of every page.

Everything is escaped unless a template says otherwise, and none does but for the plots, which are made here of numbers. The policy (CSP) allows
scripts and styles from this package alone, none within a page: what somebody smuggles into a page does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from agezero import __version__
from agezero.console.assets import PREFIX, Asset
from agezero.http.reply import Header
from agezero.journal import text_of

_OWN = ("script-src", "style-src", "img-src", "connect-src", "form-action")
_NONE = ("default-src", "base-uri", "frame-ancestors")
POLICY = "; ".join([*(f"{what} 'none'" for what in _NONE), *(f"{what} 'self'" for what in _OWN)])
GUARDS: tuple[Header, ...] = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
HTML: tuple[Header, ...] = ((b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store"), *GUARDS)
_SECOND_MS, _MINUTE_MS, _HOUR_MS = 1_000, 60_000, 3_600_000

Render = Callable[[str, Mapping[str, Any]], str]
"""A page, or a part of one, of a template's name and its values."""


def renderer(assets: Mapping[str, Asset]) -> Render:
    """A function of a template's name and its values."""
    environment = Environment(
        loader=PackageLoader("agezero.console"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(
        version=__version__,
        asset=lambda name: f"{PREFIX}{name}?v={assets[name].version}",
    )
    environment.filters.update(clock=clock, day=day, between=between, span=span, number=number, count=count, ticked=ticked, text_of=text_of)
    return lambda name, values: environment.get_template(name).render(values)


def clock(text: str) -> str:
    """``2026-01-31T12:00:01.250Z`` → ``12:00:01.250``."""
    return text[11:].rstrip("Z")


def day(text: str) -> str:
    """``2026-01-31T12:00:01.250Z`` → ``2026-01-31``."""
    return text[:10]


def between(start: str | None, end: str | None) -> str:
    """How long it took, for people; empty where one of them is not known."""
    return "" if start is None or end is None else span((_parsed(end) - _parsed(start)).total_seconds() * 1000)


def span(ms: float | None) -> str:
    """``12 ms``, ``3.4 s``, ``2 min 5 s``, ``3 h 20 min``; clocks that were set back make no time negative."""
    if ms is None:
        return ""
    ms = max(0.0, ms)
    if ms < _SECOND_MS:
        return "under 1 ms" if ms < 1 else f"{ms:.0f} ms"
    if ms < _MINUTE_MS:
        return f"{ms / _SECOND_MS:.1f} s"
    if ms < _HOUR_MS:
        return f"{ms // _MINUTE_MS:.0f} min {ms % _MINUTE_MS / _SECOND_MS:.0f} s"
    return f"{ms // _HOUR_MS:.0f} h {ms % _HOUR_MS / _MINUTE_MS:.0f} min"


def number(value: int) -> str:
    """``12 345``, with a thin space."""
    return f"{value:,}".replace(",", "\u202f")


def count(value: int, one: str, many: str = "") -> str:
    """``1 edge``, ``2 edges``."""
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def ticked(text: str) -> Markup:
    """What stands between backticks becomes code."""
    words = [escape(word) for word in text.split("`")]
    return Markup("").join(Markup("<code>{}</code>").format(word) if index % 2 else word for index, word in enumerate(words))


def _parsed(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
