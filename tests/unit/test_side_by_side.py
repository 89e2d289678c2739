"""Side by side run whole modules: what a module starts is started once, and its tests come in the order that they stand in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
MODULE = """import os
import pytest

@pytest.mark.parametrize("number", range(8))
def test_it(number):
    with open(os.environ["RAN"], "a") as ran:
        print(__name__, os.environ["PYTEST_XDIST_WORKER"], number, file=ran)
"""
CACHES = MODULE.replace('"number", range(8)', '("case", "number"), [(case, number) for case in ("one", "other") for number in range(8)]').replace(
    "(number)", "(case, number)"
)


def test_a_module_stays_with_one_worker_and_so_does_each_cache_of_a_module(tmp_path: Path) -> None:
    for name in ("test_a", "test_b"):
        (tmp_path / f"{name}.py").write_text(MODULE)
    (tmp_path / "test_caches.py").write_text(CACHES.replace("__name__", "case"))
    ran = tmp_path / "ran"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-p", "conftest", "-p", "no:cacheprovider", tmp_path],
        env=os.environ | {"PYTHONPATH": str(TESTS), "RAN": str(ran)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in ran.read_text().splitlines()]
    assert {name: len({worker for each, worker, _ in lines if each == name}) for name in {line[0] for line in lines}} == {
        "test_a": 1,
        "test_b": 1,
        "one": 1,
        "other": 1,
    }
    assert all([int(number) for each, _, number in lines if each == name] == list(range(8)) for name in ("test_a", "test_b", "one", "other"))


def test_no_two_files_of_tests_have_one_name() -> None:
    """pytest takes them for one module, and `make test ARGS=…` ends before it has begun."""
    names = [path.name for path in Path(__file__).parents[1].glob("*/**/test_*.py")]
    assert sorted(names) == sorted(set(names))
