"""What is promised holds through a minute of real kills and freezes (``make chaos``), and a broken promise would be seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chaos.run import Plan, run
from support.seeds import seed_of


def test_one_minute(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Over a minute, as its name says: faults need time to meet each other."""
    seed = seed_of(request)
    result = asyncio.run(run(Plan(seed, duration_s=60, data=tmp_path)))
    assert not result.history.violations, f"seed {seed}: {result}\n{result.history.violations[0]}\n{result.output[-3000:]}"
    assert "Traceback" not in result.output, f"seed {seed}:\n{result.output[-3000:]}"
    counts = result.history.counts
    assert min(counts["purges"], counts["hits"], counts["fenced"]) > 100, f"too little has happened: {result}"
    assert sum(result.faults.values()) > 10, f"too little has gone wrong: {result}"


def test_without_the_lease_check_there_are_violations(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The twin: an edge that was frozen, and went on, answers from its cache if nothing in it forbids that.

    Twelve seconds of faults, and a start and an end around them.
    """
    seed = seed_of(request)
    plan = Plan(seed, duration_s=12, kinds=("edge frozen",), without="lease_checked", data=tmp_path)
    result = asyncio.run(run(plan))
    assert any(violation.startswith("honest") for violation in result.history.violations), f"seed {seed}: {result}"
