"""What happens, for whoever is to be told of it outside: purges that complete or don't, edges that lose or take their lease.

Theory: nothing is queued here, however many purges a second there are. Whoever wants to tell of them keeps a mark, the seq up to which it has
told, and asks for what is complete beyond it when it is ready; so the same marks serve after a restart, and nobody pays while nobody asks. Edges
and what holds purges up are states: whoever keeps what it has told last finds the difference.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from agezero.control import ControlNode
from agezero.core.ledger import Blocker
from agezero.ports import PurgeHistory


class EventKind(StrEnum):
    """Their names as they are sent."""

    PURGE_COMPLETED = "purge.completed"
    PURGE_BLOCKED = "purge.blocked"
    EDGE_FENCED = "edge.fenced"
    EDGE_UNFENCED = "edge.unfenced"


@dataclass(frozen=True, slots=True)
class Completed:
    """A purge that is proven."""

    id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Blocked:
    """The oldest purge that is not complete, how many there are, and which edges hold it up."""

    id: str
    seq: int
    pending_s: float
    entries: int
    blockers: Sequence[Blocker]


class Events(Protocol):
    """Where the events come from."""

    def latest(self) -> int:
        """Every purge up to this seq is complete, and that may be said."""
        ...

    async def completed(self, after: int, limit: int) -> Sequence[Completed]:
        """Purges beyond ``after`` that are complete, oldest first. Raises :class:`agezero.ports.LogUnavailable`."""
        ...

    async def blocked(self) -> Blocked | None:
        """The oldest purge that is not complete; None where all are. Raises :class:`agezero.ports.LogUnavailable`."""
        ...

    def fenced(self) -> Mapping[str, bool] | None:
        """Each edge's name, and whether it is fenced; None while the service starts, when edges are fenced only for a moment."""
        ...

    async def change(self, timeout_s: float) -> bool:
        """Return when something may have changed; False after ``timeout_s`` without a change."""
        ...


class ControlEvents:
    """The :class:`Events` of a control side."""

    def __init__(self, control: ControlNode, history: PurgeHistory) -> None:
        self._control = control
        self._history = history

    def latest(self) -> int:
        """See :class:`Events`. Of a fleet, this node may hear that something is complete before it has read what that is."""
        return min(self._control.progress.completed, self._control.log.head)

    async def completed(self, after: int, limit: int) -> Sequence[Completed]:
        """See :class:`Events`."""
        until = self.latest()
        records = await self._history.after(after, limit) if until > after else ()
        return [Completed(self._control.ids.seal(record.last), record.last) for record in records if record.last <= until]

    async def blocked(self) -> Blocked | None:
        """See :class:`Events`."""
        completed, head = self.latest(), self._control.log.head
        if head <= completed or not (records := await self._history.after(completed, 1)):
            return None
        oldest = records[0]
        pending_s = max(0.0, time.time() - oldest.accepted_ms / 1000)
        return Blocked(self._control.ids.seal(oldest.last), oldest.last, pending_s, head - completed, self._control.ledger.blockers(oldest.last))

    def fenced(self) -> Mapping[str, bool] | None:
        """See :class:`Events`."""
        if not self._control.started:
            return None
        return {edge.name: edge.state == "fenced" for edge in self._control.edges() if edge.state != "removed"}

    async def change(self, timeout_s: float) -> bool:
        """See :class:`Events`."""
        return await self._control.progress.change(timeout_s)
