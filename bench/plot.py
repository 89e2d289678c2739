"""The plot: how far each figure is from its limit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from bench.harness import Figure

_PASSES, _FALLS_SHORT = "#2a9d6f", "#c8553d"


def margins(figures: Sequence[Figure], path: Path) -> None:
    """Bars from the limit (1 ×) outwards, on a logarithmic scale: to the right it is kept."""
    mpl.rcParams["svg.hashsalt"] = "agezero"  # the same figures make the same file
    limited = [(figure, figure.limit.margin(figure.measured)) for figure in reversed(figures) if figure.limit]
    names = [f"{figure.what}\n{figure.against}" if figure.against else figure.what for figure, _ in limited]
    canvas = Canvas(figsize=(10, 1.2 + 0.55 * len(limited)), layout="constrained")
    axes = canvas.subplots()
    places = range(len(limited))
    widths = [margin - 1 for _, margin in limited]
    colours = [_PASSES if margin >= 1 else _FALLS_SHORT for _, margin in limited]
    axes.barh(places, widths, left=1, color=colours)
    axes.set_xscale("log")
    axes.set_yticks(list(places), names, fontsize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    axes.set_xlabel("distance from the limit; more is better")
    axes.set_title("AgeZero: figures beside their limits")
    canvas.savefig(path, metadata={"Date": None})
