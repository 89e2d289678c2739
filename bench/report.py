"""What a run leaves behind: a table on the terminal, and README.md, the plot and the raw figures in a folder."""

from __future__ import annotations

import datetime
import os
import platform
import re
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec
from rich.table import Table

from agezero import __version__
from agezero.edges.nginx.binary import find_nginx
from agezero.errors import UserError
from bench import plot, wrk
from bench.harness import Figure

_PACKAGES = ("granian", "starlette", "msgspec", "uvloop", "httpx")
_COLUMNS = ("what", "measured", "against", "limit", "goal", "verdict", "medians")
_STYLES = {"passes": "green", "falls short": "bold red", "for information": "dim"}


class Run(msgspec.Struct, frozen=True):
    """All of one run. ``missing``: the rows that could not be measured, and why."""

    scale: str
    machine: Mapping[str, str]
    figures: Sequence[Figure]
    missing: Mapping[str, str]
    took_s: int


def machine() -> dict[str, str]:
    """Where and with what it was measured, as it stood when the run began."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "load before the run": f"{os.getloadavg()[0]:.2f}",
        "AgeZero": __version__,
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "nginx": _nginx(),
        "wrk": wrk.version() or "not installed",
        "packages": ", ".join(f"{name} {version(name)}" for name in _PACKAGES),
    }


def table(figures: Sequence[Figure]) -> Table:
    """For the terminal."""
    found = Table("what", "measured", "limit", "goal", "verdict", title="AgeZero beside its peers")
    for figure in figures:
        what, measured, against, limit, goal, verdict, detail = _cells(figure)
        below = "; ".join(filter(None, (against and f"beside {against}", detail)))
        found.add_row(f"{what}\n[dim]{below}[/]", measured, limit, goal, f"[{_STYLES[verdict]}]{verdict}[/]")
    return found


def write(folder: Path, run: Run) -> None:
    """README.md, figures.json and margins.svg; files of an earlier run are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(_page(run, notes=(folder / "LIMITS.md").exists()))
    (folder / "figures.json").write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=1) + b"\n")
    plot.margins(run.figures, folder / "margins.svg")


def _page(run: Run, notes: bool) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`; do not edit. Each row with a peer measured the two in turn, several times, in this run; its figure is the",
        "median of the ratios. `limit` is what a release has to keep, `goal` what is aimed at next. What falls short stays in the table.",
        *(["What limits each figure: [LIMITS.md](LIMITS.md)."] if notes else []),
        "",
        _row(_COLUMNS),
        _row("---" for _ in _COLUMNS),
        *(_row(_cells(figure)) for figure in run.figures),
        *(_row((name, "not measured", "", "", "", "", why.splitlines()[0])) for name, why in run.missing.items()),
        "",
        "![How far each figure is from its limit](margins.svg)",
        "",
        f"Scale `{run.scale}`, {run.took_s} s in all. The raw figures: [figures.json](figures.json).",
        "",
        "| | |",
        "|---|---|",
        *(_row(pair) for pair in run.machine.items()),
        "",
    ]
    return "\n".join(lines)


def _cells(figure: Figure) -> tuple[str, ...]:
    limit = figure.limit
    bound = f"{limit.sense} {_number(limit.bound, figure.unit)}" if limit else ""
    goal = f"{limit.sense} {_number(limit.goal, figure.unit)}" if limit and limit.goal is not None else ""
    return figure.what, _number(figure.measured, figure.unit), figure.against, bound, goal, figure.verdict, figure.detail


def _number(value: float, unit: str) -> str:
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.2f} {unit}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def _nginx() -> str:
    try:
        said = subprocess.run([find_nginx().binary, "-V"], capture_output=True, text=True, check=False).stderr
    except UserError:
        return "not installed"
    release, njs = re.search(r"nginx/(\S+)", said), re.search(r"njs-([0-9.]+)", said)
    return (release[1] if release else "unknown") + (f" with njs {njs[1]}" if njs else "")
