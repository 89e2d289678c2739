"""Who doubts the figures measures them anew: `make bench` fills every row of its table and leaves a page, a plot and the raw figures behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.caches.all import CACHES
from support.programs import require

ROOT = Path(__file__).parents[2]
ROWS = {
    "status requests/s": 2,
    "purges accepted/s": 4,
    "POST to Completed": 4,
    "edge hits/s": 6,
    "prefix purge applied": 1,
    "memory of the service": 2,
    "start to ready": 1,
    "agezero --help": 1,
    "Varnish:": 11,
    "purges lost by kill -9": 1,
    "nginx with Lua:": 5,
    "Traffic Server:": 4,
    "Squid:": 4,
}


def bench(out: Path, *flags: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", "--tiny", "--out", str(out), *flags]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_every_row_has_a_figure(tmp_path: Path) -> None:
    """30 s: each row starts real processes, and all caches twice."""
    require("wrk", *(program for case in CACHES.values() for program in case.programs))
    done = bench(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    run = json.loads((tmp_path / "figures.json").read_text())
    whats = [figure["what"] for figure in run["figures"]]
    assert {begin: sum(what.startswith(begin) for what in whats) for begin in ROWS} == ROWS
    assert all(figure["measured"] > 0 for figure in run["figures"] if "lost" not in figure["what"])
    assert run["missing"] == {}
    page = (tmp_path / "README.md").read_text()
    assert all(f"| {what} |" in page for what in whats)
    assert (tmp_path / "margins.svg").read_text().count("limit") >= 1


def test_a_row_that_cannot_be_measured_says_why_and_the_others_go_on(tmp_path: Path) -> None:
    done = bench(tmp_path, "--only", "status", "startup", env={"PATH": str(tmp_path)})
    assert done.returncode == 1
    assert "hint: install the package wrk" in done.stdout
    run = json.loads((tmp_path / "figures.json").read_text())
    assert (list(run["missing"]), len(run["figures"])) == (["status"], 2)
