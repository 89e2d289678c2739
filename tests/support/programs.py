"""Programs that a machine may lack. A test that needs one is skipped by its name; in CI a skip is a failure (``conftest.py``)."""

from __future__ import annotations

import glob
import os
import shutil

import pytest

SBIN = "/usr/sbin:/usr/local/sbin"
"""Where servers lie, which is not on the PATH of everybody."""
MODULES = ("/usr/lib", "/usr/lib/*", "/usr/lib64", "/usr/local/lib")


def find(program: str) -> str | None:
    """The path of a program, or of a module ``folder/name.so`` of one."""
    if program.endswith(".so"):
        return next((path for place in MODULES for path in sorted(glob.glob(f"{place}/{program}"))), None)
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def require(*programs: str) -> None:
    """Skip the test unless every program, and every module ``folder/name.so``, is there."""
    missing = [program for program in programs if find(program) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
