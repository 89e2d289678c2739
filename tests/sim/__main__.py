"""``python -m sim``: run seeds, or repeat one."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from rich.progress import Progress

from sim.ablations import BY_NAME
from sim.parallel import each_seed
from sim.parts import HONEST, Parts
from sim.simulation import Outcome, simulate

FAILED = Path(__file__).with_name("seeds.txt")
"""Seeds that once found something, with what it was; they are always run."""
SHOWN = 5
"""How many violations are printed."""


def kept_seeds() -> list[int]:
    """Of the file."""
    return [int(line.split()[0]) for line in FAILED.read_text().splitlines() if line and not line.startswith("#")]


def main() -> int:
    """0 when no invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m sim", description="Simulate the protocol of AgeZero with faults, in virtual time.")
    parser.add_argument("--seeds", type=int, default=2000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first")
    parser.add_argument("--seed", type=int, help="only this one")
    parser.add_argument("--trace", action="store_true", help="print what happens")
    parser.add_argument("--without", choices=sorted(BY_NAME), help="take this safeguard out")
    given = parser.parse_args()
    parts = BY_NAME[given.without].parts if given.without else HONEST
    if given.seed is not None:
        return _one(given.seed, parts, given.trace)
    return _many([*kept_seeds(), *range(given.start, given.start + given.seeds)], parts, given.without)


def _one(seed: int, parts: Parts, trace: bool) -> int:
    outcome = simulate(seed, parts, trace=True)
    for line in outcome.trace if trace else ():
        print(line)
    print(f"seed {seed}: {outcome.violation or 'no violation'} ({outcome.events} events, trace {outcome.digest})")
    return 1 if outcome.violation else 0


def _many(seeds: list[int], parts: Parts, without: str | None) -> int:
    failed: list[Outcome] = []
    events = 0
    marks: set[str] = set()
    with Progress(disable=not sys.stdout.isatty(), transient=True) as progress:
        for outcome in progress.track(each_seed(partial(simulate, parts=parts), seeds), total=len(seeds), description="simulating"):
            events += outcome.events
            marks |= outcome.marks
            if outcome.violation is not None:
                failed.append(outcome)
    options = f" --without {without}" if without else ""
    for outcome in failed[:SHOWN]:
        print(f"seed {outcome.seed}: {outcome.violation}")
        print(f"  repeat with: make sim ARGS='--seed {outcome.seed} --trace{options}'")
    print(f"{len(seeds)} seeds, {events} events, {len(marks)} marks, {len(failed)} violations")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
