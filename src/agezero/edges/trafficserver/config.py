"""The files that go beside an existing Traffic Server, and the rules that use them, made from where the table is."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from agezero.edges.lua import library
from agezero.errors import UserError

SCRIPT = "agezero_trafficserver.lua"
STATES = 16
"""Lua states of a rule: more than there are threads, so that they seldom wait for each other; each maps the table and remembers URLs for itself."""
_QUOTABLE = re.compile(r"/[A-Za-z0-9._/@+-]*")
_CLOSED = "@plugin=conf_remap.so @pparam=proxy.config.http.cache.http=0"


@dataclass(frozen=True, slots=True)
class Options:
    """Where things are. ``folder``: the files; ``hosts``: as visitors ask for them."""

    folder: Path = Path("/etc/trafficserver/agezero")
    table: Path = Path("/var/lib/agezero/table")
    canary: str = "127.0.0.1:8479"
    hosts: Sequence[str] = ("www.example.com",)

    def __post_init__(self) -> None:
        for name in ("folder", "table"):
            path = str(getattr(self, name))
            if not _QUOTABLE.fullmatch(path):
                raise UserError(f"{name} is {path!r}", "expected an absolute path of letters, digits and . _ - + @, which remap.config can hold")


def plugins(options: Options, *, between: str = "", without: Collection[str] = ()) -> str:
    """What stands behind the two URLs of a rule. ``between``: plugins of the user's own; ``without``: "closed", for tests of what it is for."""
    ours = f"@plugin=tslua.so @pparam=--states={STATES} @pparam={options.folder / SCRIPT} @pparam={options.table} @pparam={options.canary}"
    return " ".join(part for part in ("" if "closed" in without else _CLOSED, between, ours) if part)


def files(options: Options) -> dict[str, str]:
    """Name and content of what goes into ``options.folder``."""
    return {
        SCRIPT: resources.files(__package__).joinpath(SCRIPT).read_text(),
        **library(),
        "remap.config.example": _example(options),
    }


def write(options: Options) -> None:
    """Write them, readable by Traffic Server's user."""
    options.folder.mkdir(parents=True, exist_ok=True)
    for name, text in files(options).items():
        (options.folder / name).write_text(text)
        (options.folder / name).chmod(0o644)


def files_as_text(options: Options) -> str:
    """All files in one text, each under its name: what ``agezero edge-config`` prints."""
    parts = (f"{'--' if name.endswith('.lua') else '#'} File: {options.folder / name}\n{text}" for name, text in files(options).items())
    return "\n".join(parts)


def _example(options: Options) -> str:
    first, second, *last = plugins(options).split(" @plugin=tslua.so ")[0], "@plugin=tslua.so", plugins(options).split(" @plugin=tslua.so ")[1]
    rules = "\n".join(f"map http://{host}/ http://ORIGIN/ \\\n    {first} \\\n    {second} {last[0]}" for host in options.hosts)
    return f"""# Rules for remap.config. Put the two plugins behind the two URLs of each rule that you have, in this order:
# conf_remap turns the cache off, and only AgeZero's script, which comes last, turns it on. Plugins of your own (cachekey, header_rewrite) go between
# them. A rule without these two is served from the cache and never purged.
# The script also sends /.well-known/agezero/ to {options.canary}, where `agezero doctor` answers; leave the last @pparam out to have that off.
{rules}
"""
