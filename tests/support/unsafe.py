"""``agezero`` with one safeguard of the edge taken away, for the tests that show that it is needed. No setting can do this.

python tests/support/unsafe.py epoch_in_key up --origin …
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from agezero import fleet
from agezero.cli.main import run
from agezero.edges.nginx.process import EdgeProcess

SAFEGUARDS = ("epoch_in_key", "lease_checked")

if __name__ == "__main__":
    safeguard = sys.argv[1]
    assert safeguard in SAFEGUARDS
    without: dict[str, Any] = {safeguard: False}
    setattr(fleet, "EdgeProcess", functools.partial(EdgeProcess, **without))  # noqa: B010 (a type is replaced by something like it)
    sys.exit(run(sys.argv[2:]))
