"""What a second look after a purge consists of, and what tells agezero.vcl meanwhile what was purged.

A purge may miss an object whose fetch had compared its counters and wasn't yet stored. Counters of folders, hosts and tags are shared by many, so
the purge itself is written into a *place* of Varnish before its counter is moved: a hit on a young object looks there. A second later
a ban removes what was fetched before the confirmation, and the place is free again. Where all places are taken, a young object with a moved
counter is taken for purged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from agezero.edges.varnish import names
from agezero.edges.varnish.vcl import TAG_PLACES, WIDE_PLACES

T = TypeVar("T")
SETTLE_TICK_S = 0.1
ROUNDED_S = 0.001
"""Varnish rounds the time that it tells and the age in a ban, each by half of this. What was fetched so soon after a purge goes as well."""
URLS_MAX = 300
"""In one ban."""
TAGS_MAX = 30
"""In one command."""


@dataclass(frozen=True, slots=True)
class Command:
    """A call to agezero.vcl. ``wide``: what stands for it in a place."""

    path: str
    headers: Mapping[str, str]
    wide: str = ""


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A command that was, or will be, confirmed at ``given_s`` (monotonic); ``since``: the same moment on Varnish's clock."""

    command: Command
    place: str = ""
    given_s: float = 0.0
    since: float = 0.0


class Places:
    """Which are free. One whose command was never confirmed isn't used again: the command might still be on its way."""

    def __init__(self) -> None:
        self._wide, self._tags = list(WIDE_PLACES), list(TAG_PLACES)

    def put(self, command: Command) -> Unsettled:
        """The command with a place, where it needs one."""
        tags = command.headers["AgeZero-Keys"].split() if command.path == "/tags" else []
        if not command.wide and not tags:
            return Unsettled(command)
        free = self._tags if tags else self._wide
        value = command.wide or tags[0]
        if not free or len(tags) > 1:
            return Unsettled(replace(command, headers={**command.headers, "AgeZero-Place": "crowded"}))
        place = free.pop()
        return Unsettled(replace(command, headers={**command.headers, "AgeZero-Place": place, "AgeZero-Value": value}), place)

    def release(self, entries: Iterable[Unsettled]) -> None:
        """They are settled, and their places empty."""
        for entry in entries:
            if entry.place:
                (self._tags if entry.place in TAG_PLACES else self._wide).append(entry.place)


def due_of(unsettled: Sequence[Unsettled]) -> list[Unsettled]:
    """The oldest, and those given together with it: what was fetched between the first and the last of them goes too."""
    return [entry for entry in unsettled if entry.given_s <= unsettled[0].given_s + SETTLE_TICK_S] if unsettled else []


def settling(due: Sequence[Unsettled]) -> Iterator[Command]:
    """What removes the objects that ``due`` names and that are older than it, then empties its places. A soft purge can only be given again."""
    if not due:
        return
    since = f"{max(entry.since for entry in due) + ROUNDED_S:.3f}"
    for ban in _bans([entry.command for entry in due]):
        yield Command("/ban", {"AgeZero-Repeat": "1", "AgeZero-Since": since, "AgeZero-Ban": ban})
    for path in ("/soft-urls", "/soft-tags"):
        for part in parts(_keys(due, path), TAGS_MAX):
            yield Command(path, {"AgeZero-Repeat": "1", "AgeZero-Keys": " ".join(part)})
    for entry in due:
        if entry.place:
            yield Command("/empty", {"AgeZero-Place": entry.place})


def _bans(commands: Sequence[Command]) -> list[str]:
    entries = [Unsettled(command) for command in commands]
    bans = dict.fromkeys(command.headers["AgeZero-Ban"] for command in commands if command.path == "/ban")
    bans |= dict.fromkeys(names.key_ban(part) for part in parts(_keys(entries, "/urls"), URLS_MAX))
    return [*bans, *(names.tag_ban((tag,)) for tag in _keys(entries, "/tags"))]


def _keys(entries: Sequence[Unsettled], path: str) -> list[str]:
    chosen = (entry.command.headers["AgeZero-Keys"].split() for entry in entries if entry.command.path == path)
    return list(dict.fromkeys(key for keys in chosen for key in keys))


def parts(items: Iterable[T], most: int) -> Iterator[tuple[T, ...]]:
    """Cut into tuples of ``most`` and the rest."""
    rest = iter(items)
    while part := tuple(islice(rest, most)):
        yield part
