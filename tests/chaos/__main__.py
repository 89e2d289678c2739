"""``make chaos MINUTES=10``: exit 1 where a promise was broken; the seed repeats the same decisions, though not the same timing."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys

from chaos.run import Plan, Result, run
from support.unsafe import SAFEGUARDS

_SHOWN_MAX = 10


def main() -> int:
    """One run, with its standing on one line while it lasts."""
    parser = argparse.ArgumentParser(prog="chaos", description="Kill and freeze real processes under load, and check what the clients see.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--without", choices=SAFEGUARDS, default="", help="take a safeguard away: violations must follow")
    given = parser.parse_args()
    plan = Plan(given.seed, given.minutes * 60, without=given.without)
    print(f"seed {plan.seed}", flush=True)
    result = asyncio.run(run(plan, show))
    print(f"\n{result}")
    for violation in result.history.violations[:_SHOWN_MAX]:
        print(f"violation of {violation}")
    if result.history.violations:
        without = f" --without {plan.without}" if plan.without else ""
        print(f"repeat: make chaos MINUTES={given.minutes:g} ARGS='--seed {plan.seed}{without}'")
    return 1 if result.history.violations else 0


def show(result: Result, passed_s: float) -> None:
    start, end = ("\r", "\033[K") if sys.stdout.isatty() else ("", "\n")
    if end == "\033[K" or round(passed_s) % 10 == 0:
        print(f"{start}{int(passed_s // 60):02}:{int(passed_s % 60):02} {result}", end=end, flush=True)


if __name__ == "__main__":
    sys.exit(main())
