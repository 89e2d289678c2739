"""The table of capabilities in docs/DRIVERS.md, from what the drivers say of themselves. ``python -m support.capabilities`` renews it."""

from __future__ import annotations

import re
from pathlib import Path

from agezero.config.edges import DRIVERS
from agezero.core.selector import Kind
from agezero.edges.kinds import DriverKind, kind_of
from agezero.edges.nginx.driver import NginxDriver
from agezero.ports import Capabilities

PAGE = Path(__file__).parents[2] / "docs" / "DRIVERS.md"
_BLOCK = re.compile(r"(<!-- capabilities:begin -->\n\n).*?(\n\n<!-- capabilities:end -->)", re.DOTALL)
_WIDER = {Kind.URL: "its prefix", Kind.PREFIX: "its host", Kind.TAG: "everything", Kind.HOST: "everything"}
ROWS = {
    "URL, all variants": Kind.URL,
    "prefix": Kind.PREFIX,
    "tag": Kind.TAG,
    "host": Kind.HOST,
    "everything": Kind.EVERYTHING,
    "soft": "soft",
    "fence by the data plane itself": "fences",
    "the purge table outlives a restart of the cache": "restores",
}
_EMBEDDED = DriverKind(
    title="embedded nginx",
    capabilities=NginxDriver.capabilities,
    notes={},
    open=lambda *_: NotImplemented,
    configuration=lambda *_: "",
    examine=lambda *_: NotImplemented,
)


def table() -> str:
    """Markdown: a row for each capability, a column for each driver."""
    kinds = [_EMBEDDED, *map(kind_of, DRIVERS)]
    lines = ["| | " + " | ".join(kind.title for kind in kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    lines += [f"| {row} | " + " | ".join(_cell(kind, row) for kind in kinds) + " |" for row in ROWS]
    return "\n".join(lines)


def _cell(kind: DriverKind, row: str) -> str:
    note = kind.notes.get(row, "")
    return _verdict(kind.capabilities, ROWS[row]) + (f", {note}" if note else "")


def _verdict(can: Capabilities, what: Kind | str) -> str:
    if isinstance(what, Kind):
        return "yes" if what in can.exact else f"widened to {_WIDER[what]}"
    if what == "soft":
        return "yes" if can.soft else "made hard"
    return "yes" if getattr(can, what) else "no"


def renewed(page: str) -> str:
    """The page with the table as it is now."""
    return _BLOCK.sub(lambda match: match[1] + table() + match[2], page)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
