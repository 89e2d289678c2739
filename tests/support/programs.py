"""Programs that a machine may lack. A test that needs one is skipped by its name; in CI a skip is a failure (``conftest.py``)."""

from __future__ import annotations

import shutil

import pytest


def require(*programs: str) -> None:
    """Skip the test unless every program is on the PATH."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
