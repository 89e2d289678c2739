"""`make bench`: how fast AgeZero is, each figure beside a peer that was measured in the same run.

A machine is never quiet, so a figure alone says little. Every row that has a peer measures the two in turn, several times, and takes the
median of the ratios. One file per row; :mod:`bench.harness` is what they share.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the caches, ports and servers of the tests
