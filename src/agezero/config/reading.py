"""Reads the settings: defaults, then agezero.toml, then flags; all checked before anything starts."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from agezero.config.checks import DOCS, check
from agezero.config.edges import DRIVERS
from agezero.config.names import flag_of, line_of, setting_names
from agezero.config.settings import Config
from agezero.core.wildcards import Wildcards
from agezero.errors import UserError

FILE = "agezero.toml"
_WORDS = {"Expected": "expected", "`object`": "a section", "Invalid enum value": "unknown value", "Invalid value": "unknown value"}
_INDEX = re.compile(r"(?<!^\.edges)\[\d+\].*")
"""Of an entry of a list that is one setting; each table of ``[[edges]]`` has settings of its own."""

Flags = Mapping[str, object]
"""What the command line set: names with dots → values."""


def read_config(path: Path | None = None, flags: Flags | None = None) -> Config:
    """Settings from ``path`` (None: ``agezero.toml`` here, if there is one) and ``flags``. Raises :class:`UserError`."""
    flags = {name: value for name, value in (flags or {}).items() if value not in (None, (), [])}
    text, source = _read(path)
    raw = _parse(text, source)
    _convert(raw, lambda name: f"{source}:{line_of(text, name)}")
    for name, value in flags.items():
        *sections, last = name.split(".")
        target = raw
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value

    def where(name: str) -> str:
        return flag_of(name) if name in flags else f"{source}:{line_of(text, name)}"

    config = _convert(raw, where)
    check(config, where)
    return config


def _read(path: Path | None) -> tuple[str, str]:
    if path is None and not Path(FILE).exists():
        return "", FILE
    path = path or Path(FILE)
    try:
        return path.read_text(encoding="utf-8-sig"), str(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", "save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read the settings in {path}: {error.strerror}", "check the path given with --config") from None


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        line = re.search(r"\(at line (\d+), column \d+\)$", message)
        number = line[1] if line else text.count("\n") + 1
        raise UserError(f"{source}:{number}: not valid TOML: {message}", 'a setting looks like: listen = "127.0.0.1:8080"') from None


def _convert(raw: dict[str, Any], where: Callable[[str], str]) -> Config:
    """Type check. msgspec names the place as ``$.limits`` and an unknown name in the text before it."""
    try:
        return msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        name = _INDEX.sub("", place.rstrip("`")).lstrip(".")
        if unknown := re.match(r"Object contains unknown field `(.*)`", text):
            name = f"{name}.{unknown[1]}".lstrip(".")
            raise UserError(f"{where(name)}: there is no setting {name!r}", _nearest(name)) from None
        if missing := re.match(r"Object missing required field `(.*)`", text):
            raise UserError(f"{where(name)}: the setting {name}.{missing[1]} is missing", _allowed(f"{name}.{missing[1]}")) from None
        for theirs, ours in _WORDS.items():
            text = text.replace(theirs, ours)
        raise UserError(f"{where(name)}: the setting {name!r} is not valid: {text}", _allowed(name)) from None


def _nearest(name: str) -> str:
    """The most similar setting; one of the same last name in another section is nearest."""
    name = re.sub(r"\[\d+\]", "", name)
    names = list(setting_names())
    last = name.rpartition(".")[2]
    twins = [known for known in names if known.rpartition(".")[2] == last]
    close = twins or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if not close:
        by_last = {known.rpartition(".")[2]: known for known in names}
        close = [by_last[match] for match in difflib.get_close_matches(last, by_last, n=1, cutoff=0.7)]
    return f"did you mean {' or '.join(map(repr, close))}?" if close else DOCS


def _allowed(name: str) -> str:
    name = re.sub(r"\[\d+\]", "", name)
    choices: dict[str, list[str]] = {
        "wildcards": list(Wildcards),
        "edge.origin_host": ["origin", "pass"],
        "edges.driver": list(DRIVERS),
        "logging.format": ["auto", "json", "text"],
        "logging.requests": ["none", "changes", "all"],
    }
    return f"expected one of: {', '.join(choices[name])}" if name in choices else DOCS
