"""The documentation can be read as a site, and none of its links leads nowhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)\s#]+)")


def test_it_builds_without_a_warning(tmp_path: Path) -> None:
    """Takes some 10 s: Sphinx reads and writes every page."""
    build: list[str | Path] = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-d", tmp_path / "trees", ROOT / "docs", tmp_path / "site"]
    done = subprocess.run(build, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").exists()


def test_what_the_pages_beside_it_link_to_is_there() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"):
        links = [link for link in LINK.findall(page.read_text()) if "://" not in link]
        assert [link for link in links if not (ROOT / link).exists()] == [], page.name


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
