"""A plot of latencies as SVG, made here of numbers alone. Time goes to the right; milliseconds go up by decades, because a fence takes a thousand
times as long as a purge, and both have to be seen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from markupsafe import Markup

from agezero.console.latency import Point
from agezero.console.render import span

WIDTH, HEIGHT = 420, 190
LEFT, RIGHT, TOP, BOTTOM = 64, 8, 12, 30
LINES = {"p50": 4.0, "p99": 3.5}
"""Each line and the radius of its dots."""


def plot(points: Sequence[Point], title: str, description: str, top_ms: int) -> Markup:
    """One figure. ``top_ms``: what has to fit, so that several figures have one scale. Lengths are in the units of its view box."""
    decades = max(1, math.ceil(math.log10(max(10, top_ms))))
    parts = [*_grid(decades), *_times(points)]
    for name, radius in LINES.items():
        parts += _line(name, radius, [(x, _y(value, decades)) for x, value in _values(points, name)])
    head = Markup('<svg role="img" aria-label="{}" viewBox="0 0 {} {}">').format(f"{title}. {description}", WIDTH, HEIGHT)
    return head + Markup("").join(parts) + Markup("</svg>")


def _values(points: Sequence[Point], name: str) -> Iterator[tuple[float, int]]:
    for index, each in enumerate(points):
        value = each.p50 if name == "p50" else each.p99
        if value is not None:
            yield _x(index, len(points)), value


def _x(index: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (index + 0.5) / max(1, count)


def _y(value_ms: float, decades: int) -> float:
    share = math.log10(max(1.0, value_ms)) / decades
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, share)


def _grid(decades: int) -> Iterator[Markup]:
    for decade in range(decades + 1):
        y = _y(10**decade, decades)
        yield Markup('<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(LEFT, WIDTH - RIGHT, y, y)
        if decades < 4 or decade % 2 == decades % 2:
            yield Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(LEFT - 8, y + 4, span(10**decade).replace(".0 ", " "))


def _times(points: Sequence[Point]) -> Iterator[Markup]:
    places = ((0, "start"), (len(points) // 2, "middle"), (len(points) - 1, "end"))
    for index, anchor in places if points else ():
        at = datetime.fromtimestamp(points[index].until_ms / 1000, UTC).strftime("%H:%M:%S")
        yield Markup('<text x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(_x(index, len(points)), HEIGHT - 8, anchor, at)


def _line(name: str, radius: float, places: Sequence[tuple[float, float]]) -> Iterator[Markup]:
    if len(places) > 1:
        yield Markup('<path class="{}" d="M{}"/>').format(name, " L".join(f"{x:.1f} {y:.1f}" for x, y in places))
    for x, y in places:
        yield Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(name, x, y, radius)
