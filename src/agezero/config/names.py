"""The names of settings, and where in a file one stands. ``limits.purges_per_s`` is ``purges_per_s`` in the section ``[limits]``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import msgspec

from agezero.config.edges import DRIVERS
from agezero.config.settings import Config
from agezero.config.types import Section

_FLAGS = {
    "api.listen": "--api",
    "edge.listen": "--edge",
    "edge.origin": "--origin",
    "endpoints": "--endpoint",
    "data": "--data",
    "log.url": "--log",
}


def setting_names(section: type[Section] = Config) -> Iterator[str]:
    """Every setting's name, with dots."""
    for field in msgspec.structs.fields(section):
        if field.name == "edges" and section is Config:
            yield from dict.fromkeys(f"edges.{inner}" for kind in DRIVERS.values() for inner in ("driver", *setting_names(kind)))
        elif isinstance(field.type, type) and issubclass(field.type, Section):
            yield from (f"{field.name}.{inner}" for inner in setting_names(field.type))
        else:
            yield field.name


def line_of(text: str, name: str) -> int:
    """The line of a setting in TOML text: where its key stands, else where its section does, else the first.

    ``edges[1].tier`` stands in the second table ``[[edges]]``.
    """
    wanted = name.split(".")
    section: list[str] = []
    tables: Counter[str] = Counter()
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if table := re.match(r"\s*\[\[([^\[\]]+)\]\]", line):
            path = ".".join(_parts(table[1]))
            found = section = [f"{path}[{tables[path]}]"]
            tables[path] += 1
        elif header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = _parts(header[1])
            found = section
        elif assignment := re.match(r"\s*([^=#\[\]{}]+?)\s*=", line):
            found = section + _parts(assignment[1])
        else:
            continue
        if found == wanted[: len(found)] and len(found) > depth:
            best, depth = number, len(found)
    return best


def flag_of(name: str) -> str:
    """The flag of ``agezero up`` that sets ``name``."""
    return _FLAGS[name]


def _parts(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]
