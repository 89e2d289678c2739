"""The examples of a Markdown page: each fenced block that follows a comment ``<!-- example: FILE -->``."""

from __future__ import annotations

import re
from pathlib import Path

API_PAGE = Path(__file__).parents[2] / "docs" / "API.md"

_EXAMPLE = re.compile(r"^<!-- example: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: Path = API_PAGE) -> dict[str, str]:
    """File name → text."""
    found = _EXAMPLE.findall(page.read_text(encoding="utf-8"))
    assert len(dict(found)) == len(found), "two examples have the same name"
    return dict(found)
