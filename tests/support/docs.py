"""The examples of a Markdown page: each fenced block that follows a comment ``<!-- example: FILE -->``."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

API_PAGE = Path(__file__).parents[2] / "docs" / "API.md"

_EXAMPLE = re.compile(r"^<!-- example: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: Path = API_PAGE) -> dict[str, str]:
    """File name → text."""
    found = _EXAMPLE.findall(page.read_text(encoding="utf-8"))
    assert len(dict(found)) == len(found), "two examples have the same name"
    return dict(found)


DRIVER_PAGES = API_PAGE.parent / "drivers"
_SECTION = re.compile(r"^## (?:Set it up|From a clean Debian 12)\n(.*?)^## ", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"(?:^ *<!-- file: (\S+) -->\n)?^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def tutorial(page: Path) -> list[tuple[str, str]]:
    """What a page says is to be done, in its order: a file that is to have this text; or, without a name, commands.

    Each block of its tutorial is one or the other.
    """
    section = _SECTION.search(page.read_text(encoding="utf-8"))
    assert section
    steps = []
    for file, _, language, text in _BLOCK.findall(section[1]):
        assert (language == "sh") is not bool(file), f"what is to be done with this?\n{text}"
        steps.append((file, textwrap.dedent(text)))
    return steps
