"""The simulator as a test: fixed seeds, seeds that nobody has seen before, and every safeguard's absence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import idna
import pytest

import agezero
from sim.__main__ import kept_seeds
from sim.ablations import ABLATIONS, Ablation, first_violation
from sim.marks import REQUIRED, UNREACHED
from sim.parallel import each_seed
from sim.simulation import simulate

FIXED = 2000
FRESH = 500
TESTS = Path(__file__).parents[1]
PROTOCOL = TESTS.parent / "docs" / "PROTOCOL.md"
_DIGESTS = "from sim.simulation import simulate; print(*(simulate(seed, trace=True).digest for seed in range(6)))"


def commit_seeds() -> range:
    """Seeds that follow from the commit, so that each commit tries others and yet can be repeated."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TESTS, capture_output=True, text=True, check=False)
    start = int(found.stdout[:10] or "0", 16) + FIXED
    return range(start, start + FRESH)


def violations(seeds: range | list[int]) -> tuple[list[str], set[str]]:
    found, marks = [], set[str]()
    for outcome in each_seed(simulate, seeds):
        marks |= outcome.marks
        if outcome.violation is not None:
            found.append(f"{outcome.violation}; repeat with: make sim ARGS='--seed {outcome.seed} --trace'")
    return found, marks


def test_fixed_seeds_violate_nothing_and_reach_everything() -> None:
    """Over 10 s: two thousand simulated worlds, of which each mark must be reached by one."""
    found, marks = violations(range(FIXED))
    assert not found
    assert not REQUIRED - marks
    assert not marks & UNREACHED


def test_seeds_of_this_commit_violate_nothing() -> None:
    assert not violations(commit_seeds())[0]


def test_seeds_that_once_found_something_violate_nothing() -> None:
    assert not violations(kept_seeds())[0]


@pytest.mark.parametrize("ablation", ABLATIONS, ids=lambda ablation: ablation.name)
def test_the_absence_of_a_safeguard_is_noticed(ablation: Ablation) -> None:
    """And PROTOCOL.md names the seed that shows it."""
    found = first_violation(ablation, processes=1)
    assert found is not None
    row = f"| {ablation.name} | {ablation.without} | {ablation.invariant} | {found.seed} |"
    assert row in PROTOCOL.read_text(), f"PROTOCOL.md should say: {row}"


def pythons() -> list[str]:
    """This interpreter, and other supported ones that the machine has."""
    others = [shutil.which(f"python3.{minor}") for minor in (11, 12, 13, 14)]
    works = [path for path in others if path and subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0]
    return list(dict.fromkeys([sys.executable, *works]))


def test_a_seed_gives_the_same_trace_on_any_python_under_any_hash_seed() -> None:
    packages = [str(Path(module.__file__ or "").parents[1]) for module in (agezero, idna)]
    path = os.pathsep.join([str(TESTS), *packages])
    runs = [(python, hash_seed) for python in pythons() for hash_seed in ("0", "4242")]
    digests = {
        subprocess.run(
            [python, "-c", _DIGESTS],
            env=os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for python, hash_seed in runs
    }
    assert len(digests) == 1
