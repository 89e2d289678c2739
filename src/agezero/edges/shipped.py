"""What the drivers of an nginx of one's own have in common: the files that they ship, written into one folder or printed as one text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from agezero.errors import UserError

_QUOTABLE = re.compile(r"/[A-Za-z0-9._/@+-]*")
_COMMENT = {".lua": "--", ".js": "//"}


def demand_quotable(**paths: Path) -> None:
    """Raises :class:`UserError` for a path that cannot stand in a configuration as it is."""
    for name, path in paths.items():
        if not _QUOTABLE.fullmatch(str(path)):
            raise UserError(f"{name} is {str(path)!r}", "expected an absolute path of letters, digits and . _ - + @, which nginx can read unquoted")


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write them, readable by the cache's user."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)


def as_text(folder: Path, files: Mapping[str, str]) -> str:
    """All files in one text, each under its name: what ``agezero edge-config`` prints."""
    return "\n".join(f"{_COMMENT.get(Path(name).suffix, '#')} File: {folder / name}\n{text}" for name, text in files.items())
