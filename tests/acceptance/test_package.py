"""Whoever installs the wheel gets all of AgeZero: the commands, the caches' configuration, the types, and a purge that is proven."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, timeout_s: float = 240) -> str:
    done = subprocess.run(command, cwd=cwd, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a venv that had nothing in it but pip before the wheel came. Takes some 20 s: everything is installed anew."""
    home = tmp_path_factory.mktemp("package")
    wheels = home / "wheels"
    venv.create(home / "venv", with_pip=True)
    python = home / "venv" / "bin" / "python"
    run(python, "-m", "pip", "wheel", "-q", "--no-deps", "-w", wheels, ROOT, cwd=home)
    [wheel] = wheels.iterdir()
    run(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=home)
    return home


def test_its_commands_run(home: Path) -> None:
    agezero = home / "venv" / "bin" / "agezero"
    assert run(agezero, "--version", cwd=home).strip()
    for driver in ("varnish", "nginx", "trafficserver", "squid"):
        assert "agezero" in run(agezero, "edge-config", driver, cwd=home)


def test_a_purge_is_proven(home: Path) -> None:
    assert "Completed" in run(home / "venv" / "bin" / "agezero", "demo", cwd=home)


def test_its_types_come_along(home: Path) -> None:
    [package] = (home / "venv").glob("lib/python3*/site-packages/agezero")
    assert (package / "py.typed").exists()


def test_nothing_of_the_tests_is_in_it(home: Path) -> None:
    names = {path.name for path in next((home / "venv").glob("lib/python3*/site-packages")).iterdir()}
    assert not names & {"tests", "bench", "support"}
