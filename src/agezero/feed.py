"""All that happens, as events in order, from any point on.

Theory: a reader's position is two marks, *accepted* and *completed*: it has been told of all purges accepted up to the one, and completed up to the
other. Both are seqs, so a position means the same after a restart, and an event's id is the position after it. What comes next is read from the
log, when the reader is ready for it: nothing is queued for anybody, and a slow reader costs no memory. What retention has removed meanwhile is
said to be ``missed``. Events about edges are not in the log: they tell the present, and have no id.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace

import msgspec

from agezero import wire
from agezero.journal import Journal, Sees
from agezero.ports import PurgeRecord

BATCH = 200
CATCH_UP_S = 1.0
_POSITION = re.compile(r"([0-9]{1,15})-([0-9]{1,15})")


@dataclass(frozen=True, slots=True)
class Position:
    """``str()`` is the event's id."""

    accepted: int
    completed: int

    def __str__(self) -> str:
        return f"{self.accepted}-{self.completed}"


@dataclass(frozen=True, slots=True)
class Event:
    """``id`` is empty where it leaves the position as it is; without a ``name`` it is no more than a sign of life."""

    id: str
    name: str = ""
    data: bytes = b"{}"


def parse_position(text: str) -> Position | None:
    """None where it is no event's id."""
    match = _POSITION.fullmatch(text)
    return None if match is None else Position(int(match[1]), int(match[2]))


class Feed:
    """One reader's. It ends when the service does."""

    def __init__(self, journal: Journal, sees: Sees, position: Position | None, heartbeat_s: float) -> None:
        self._journal = journal
        self._sees = sees
        self._heartbeat_s = heartbeat_s
        log = journal.control.log
        self.position = position or Position(log.head, journal.progress.completed)
        self._told: dict[str, tuple[str, str]] = {}

    async def events(self) -> AsyncIterator[Event]:
        """Raises :class:`agezero.ports.LogUnavailable`."""
        progress, clock = self._journal.progress, asyncio.get_running_loop()
        await self._catch_up()
        yield Event(str(self.position))
        due_s = clock.time() + self._heartbeat_s
        while not progress.closing:
            before = self.position
            for event in [*self._missed(), *self._edges()]:
                yield event
            async for event in self._purges():
                yield event
            if self.position != before:
                due_s = clock.time() + self._heartbeat_s
            elif not await progress.change(max(0.0, due_s - clock.time())):
                yield Event(str(self.position))
                due_s = clock.time() + self._heartbeat_s

    async def _catch_up(self) -> None:
        """The position may be another node's, a moment ahead of what has been read here."""
        log = self._journal.control.log
        if self.position.accepted > log.head:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_S):
                    await log.wait(self.position.accepted - 1)

    async def _purges(self) -> AsyncIterator[Event]:
        log, progress = self._journal.control.log, self._journal.progress
        if log.head > self.position.accepted and await self._journal.settled(log.head):
            for record in await self._journal.history.after(self.position.accepted, BATCH):
                if record.last <= log.head:
                    self.position = replace(self.position, accepted=record.last)
                    for event in self._about("accepted", record):
                        yield event
        until = min(progress.completed, self.position.accepted)  # first accepted, then completed
        if until > self.position.completed:
            for record in await self._journal.history.after(self.position.completed, BATCH):
                if record.last <= until:
                    self.position = replace(self.position, completed=record.last)
                    for event in self._about("completed", record):
                        yield event

    def _about(self, name: str, record: PurgeRecord) -> Iterator[Event]:
        if self._sees(record):
            yield Event(str(self.position), name, msgspec.json.encode(self._journal.summary(record)))

    def _missed(self) -> Iterator[Event]:
        floor, head = self._journal.control.log.floor, self._journal.control.log.head
        was = self.position
        accepted = was.accepted if floor <= was.accepted <= head else min(max(was.accepted, floor), head)
        self.position = Position(accepted, min(max(was.completed, floor), accepted))
        if was.accepted < floor or was.completed < floor:
            yield Event(str(self.position), "missed", b'{"why":"the log keeps no purges this old; list what is pending instead"}')

    def _edges(self) -> Iterator[Event]:
        now = {edge.name: edge for edge in self._journal.edges()}
        for name, edge in now.items():
            if self._told.get(name) != (edge.state, edge.trouble):
                yield Event("", "edge", msgspec.json.encode(edge))
        for name in self._told.keys() - now.keys():
            yield Event("", "edge", msgspec.json.encode(wire.Edge(name, "removed", 0, 0, 0, (), "")))
        self._told = {name: (edge.state, edge.trouble) for name, edge in now.items()}
