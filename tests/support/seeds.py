"""Chance in tests comes from a seed that a failure prints."""

from __future__ import annotations

import os
import zlib

import pytest


def seed_of(request: pytest.FixtureRequest) -> int:
    """``AGEZERO_SEED`` repeats a run; by default each test has its own."""
    return int(os.environ.get("AGEZERO_SEED", zlib.crc32(request.node.name.encode())))
