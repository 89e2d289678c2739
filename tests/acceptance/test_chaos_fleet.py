"""One minute of ``make chaos-fleet``, in which every kind of fault comes at least once, and the proof that it would see a broken promise.

It lasts so long because it cannot be shorter: quorum lost and an edge fenced each outlast a lease, and an edge falls below the floor only once
enough has been purged. Two minutes would not fit into `make test`; `make chaos-fleet` runs for as long as one likes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chaos.fleet.run import FleetPlan, run
from support.programs import require
from support.seeds import seed_of


@pytest.mark.timeout(300)
def test_every_fault_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    require("varnishd")
    seed = seed_of(request)
    result = asyncio.run(run(FleetPlan(seed, duration_s=0, data=tmp_path)))
    assert not result.history.violations, f"seed {seed}: {result}\n{result.history.violations[0]}\n{result.output[-3000:]}"
    assert "Traceback" not in result.output, f"seed {seed}:\n{result.output[-3000:]}"
    counts = result.history.counts
    assert min(counts["purges"], counts["hits"], counts["fenced"]) > 100, f"too little has happened: {result}"
    assert min(result.faults.values()) >= 1, f"a fault is missing: {result}"


@pytest.mark.timeout(300)
def test_without_the_fence_there_are_violations(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The twin: edges that are cut off from NATS for longer than their lease answer from their caches if nothing in them forbids that."""
    require("varnishd")
    seed = seed_of(request)
    result = asyncio.run(run(FleetPlan(seed, duration_s=0, kinds=("all cut off",), fence=False, data=tmp_path)))
    assert any(violation.startswith("honest") for violation in result.history.violations), f"seed {seed}: {result}"
