"""``python -m bench [--quick] [--only ROW …] [--out DIR]``: measure, print the table, write it."""

from __future__ import annotations

import argparse
import asyncio
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agezero.errors import UserError
from bench import accept, completed, crowded, hits, killed, loaded, memory, nginx_own, prefix, report, squid, startup, status, trafficserver, varnish
from bench.harness import FULL, QUICK, ROOT, TINY, Figure, NotMeasured, Scale

ROWS: dict[str, ModuleType] = {
    "status": status,
    "crowded": crowded,
    "accept": accept,
    "completed": completed,
    "loaded": loaded,
    "hits": hits,
    "prefix": prefix,
    "memory": memory,
    "startup": startup,
    "varnish": varnish,
    "killed": killed,
    "nginx": nginx_own,
    "trafficserver": trafficserver,
    "squid": squid,
}
SCALES = {scale.name: scale for scale in (FULL, QUICK, TINY)}
PUBLISHED = ROOT / "docs" / "benchmarks"
UNPUBLISHED = ROOT / "build" / "benchmarks"


def main(arguments: Sequence[str]) -> int:
    """0, or 1 where a row could not be measured. A figure that falls short is a finding, not a failure."""
    options = _parser().parse_args(arguments)
    scale = SCALES[options.scale]
    out = options.out or (PUBLISHED if scale is FULL and not options.only else UNPUBLISHED)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))  # agents run in this process
    console = Console(width=None if sys.stdout.isatty() else 120)
    began_s = time.monotonic()
    machine = report.machine()
    figures, missing = _measure(options.only or [name for name in ROWS if name not in scale.leaves_out], scale, console)
    console.print(report.table(figures))
    for name, why in missing.items():
        console.print(f"not measured: {name}: {why}", style="red", markup=False)
    report.write(out, report.Run(scale.name, machine, figures, missing, round(time.monotonic() - began_s)))
    console.print(f"written to {out}", markup=False)
    return 1 if missing else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure AgeZero beside its peers.")
    parser.add_argument(
        "--quick", dest="scale", action="store_const", const="quick", default="full", help="less of everything, and of fewer rows: under a minute"
    )
    parser.add_argument("--tiny", dest="scale", action="store_const", const="tiny", help="to test the harness; the figures mean nothing")
    parser.add_argument("--only", nargs="+", choices=list(ROWS), metavar="ROW", help=f"some of: {', '.join(ROWS)}")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"where to write; default {PUBLISHED.relative_to(ROOT)} for a full run")
    return parser


def _measure(names: Sequence[str], scale: Scale, console: Console) -> tuple[list[Figure], dict[str, str]]:
    figures: list[Figure] = []
    missing: dict[str, str] = {}
    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with tempfile.TemporaryDirectory(prefix="agezero-bench-") as folder, Progress(*columns, console=console) as progress:
        for name in names:
            task = progress.add_task(name, total=ROWS[name].parts(scale))
            own = Path(folder, name)
            own.mkdir()
            try:
                figures += ROWS[name].measure(scale, own, lambda task=task: progress.advance(task))
            except (NotMeasured, UserError, OSError, subprocess.SubprocessError) as error:
                missing[name] = str(error)
    return figures, missing


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
