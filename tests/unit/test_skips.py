"""Outside CI a missing program skips a test by name; in CI the same skip fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
IN_A_TEST = "from support.programs import require\n\ndef test_it() -> None:\n    require('no-such-program')\n"
ON_IMPORT = "import pytest\n\npytest.importorskip('no_such_module')\n"
EXPECTED_FAILURE = "import pytest\n\n@pytest.mark.xfail(strict=True)\ndef test_it() -> None:\n    raise AssertionError\n"


@pytest.mark.parametrize(
    ("text", "ci", "status", "shown"),
    [
        (IN_A_TEST, "", 0, "not installed here: no-such-program"),
        (IN_A_TEST, "true", 1, "not installed here: no-such-program\nhint: CI=true allows no skips"),
        (ON_IMPORT, "true", 2, "hint: CI=true allows no skips"),
        (EXPECTED_FAILURE, "true", 0, "1 xfailed"),
    ],
)
def test_a_skip_is_a_failure_in_ci_only(tmp_path: Path, text: str, ci: str, status: int, shown: str) -> None:
    (tmp_path / "test_it.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "conftest", "-p", "no:cacheprovider", tmp_path],
        env=os.environ | {"PYTHONPATH": str(TESTS), "CI": ci},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, shown in done.stdout) == (status, True), done.stdout + done.stderr
