"""``make chaos-fleet MINUTES=15``: exit 1 where a promise was broken; the seed repeats the same decisions, though not the same timing."""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys

import structlog

from chaos.__main__ import show
from chaos.fleet.run import FleetPlan, run

_SHOWN_MAX = 10


def main() -> int:
    """One run, with its standing on one line while it lasts."""
    parser = argparse.ArgumentParser(prog="chaos.fleet", description="Break a real fleet under load in every way, and check what the clients see.")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--without-fence", action="store_true", help="no edge looks at its lease: violations must follow")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # of the agents in this process
    print(f"seed {given.seed}", flush=True)
    result = asyncio.run(run(FleetPlan(given.seed, given.minutes * 60, fence=not given.without_fence), show))
    print(f"\n{result}")
    for violation in result.history.violations[:_SHOWN_MAX]:
        print(f"violation of {violation}")
    return 1 if result.history.violations else 0


if __name__ == "__main__":
    sys.exit(main())
