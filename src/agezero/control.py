"""The control side: an asyncio shell round the ledger.

Purges come in from HTTP (``submit``), acknowledgements and requests for leases from the agents. All state is the ledger's; this shell only
tells it the time, and makes durable what it wants recorded, in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from agezero import tracing
from agezero.core.ledger import Blocker, Effect, Grant, Ledger, Member, Record, Refuse, Save
from agezero.core.purge import RequestIds
from agezero.core.selector import Selector
from agezero.core.steps import HeadKnown
from agezero.ports import Accepted, LeaseRefused, PurgeLog, Registry, RegistryUnavailable, StatusUnknown, Submission
from agezero.progress import Progress

_RECOVERING = "waiting for an edge to report, or for its lease to run out"
RETRY_S = 1.0
"""How long to wait before a record that could not be saved is tried again."""
TICK_S = 0.25
"""How often leases are looked at."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EdgeView:
    """An edge as people see it. ``lag``: purges in the log that it has not confirmed. ``trouble``: why it does not go on, if anything."""

    name: str
    state: str
    tier: int
    watermark: int
    lag: int
    does: tuple[str, ...]
    trouble: str


class MemberView(Protocol):
    """What people may know of a member."""

    @property
    def record(self) -> Record:
        """What is on record of it."""
        ...

    @property
    def watermark(self) -> int:
        """Everything up to here is applied and confirmed, as far as is known here."""
        ...

    @property
    def trouble(self) -> str:
        """Why it does not go on, if anything."""
        ...

    @property
    def counts(self) -> bool:
        """Does a purge wait for it?"""
        ...


class LedgerView(Protocol):
    """What people may know of a ledger."""

    @property
    def completed(self) -> int:
        """Every purge up to this seq is complete."""
        ...

    @property
    def members(self) -> Mapping[str, MemberView]:
        """All that ever joined, by name."""
        ...

    def blockers(self, seq: int) -> list[Blocker]:
        """The edges that hold up the purge ``seq``, the longest behind first."""
        ...


class ControlNode(Protocol):
    """What serves people: the one control side of a machine, or one of several that share a ledger."""

    started: bool
    """Set by whoever puts the parts together, once all of them run."""

    @property
    def log(self) -> PurgeLog:
        """The purge log."""
        ...

    @property
    def ids(self) -> RequestIds:
        """Seals and opens ids."""
        ...

    @property
    def progress(self) -> Progress:
        """What people wait for."""
        ...

    @property
    def ledger(self) -> LedgerView:
        """As this node knows it."""
        ...

    async def submit(self, selector: Selector, key_id: str, *, soft: bool = False, address: str = "", again: str = "") -> str:
        """The request id, once the purge is durable. ``again``: the client's own name for it, under which it is accepted once.

        Raises :class:`agezero.ports.LogUnavailable`, :class:`agezero.ports.IdempotencyConflict`.
        """
        ...

    async def submit_many(self, submission: Submission) -> Accepted:
        """See :meth:`agezero.ports.PurgeLog.append_many`."""
        ...

    async def status(self, request_id: str) -> bool | None:
        """Is it proven? None: not an id of this service. Raises :class:`agezero.ports.StatusUnknown`."""
        ...

    async def settle(self, seq: int) -> None:
        """On return, whatever anybody was told of the purges up to ``seq`` before this call is known here too, and is not taken back from here on.

        Raises :class:`agezero.ports.StatusUnknown`.
        """
        ...

    def ready(self) -> str | None:
        """None once a purge can be proven and the start is over, else the reason why not."""
        ...

    def edges(self) -> list[EdgeView]:
        """All that were not removed, and those that still count."""
        ...

    async def remove_edge(self, name: str) -> bool:
        """A human says that the edge is gone for good. False: there is none of this name. Raises :class:`agezero.ports.BoardUnavailable`."""
        ...

    async def drain_edge(self, name: str, drained: bool) -> bool:
        """A human takes the edge out of service, or puts it back. False: there is none of this name. Raises as ``remove_edge`` does."""
        ...


class Control:
    """One per process, within its event loop."""

    def __init__(self, purge_log: PurgeLog, registry: Registry, ids: RequestIds, lease_s: float, margin_s: float) -> None:
        self.log = self._log = purge_log
        self._registry = registry
        self.ids = self._ids = ids
        self.progress = Progress()
        self.ledger = Ledger(lease_s, margin_s, registry.load(), purge_log.head, time.monotonic())
        self._saving = asyncio.Lock()
        self._watchers: list[tuple[int, Callable[[HeadKnown], None]]] = []
        self._released: dict[int, int | None] = {}
        self.recovered = asyncio.Event()
        self.started = False
        """Set by whoever puts the parts together, once all of them run."""
        self.progress.begin(purge_log.head, self.ledger.members)
        purge_log.subscribe(self.progress.accepted)
        purge_log.subscribe(self._grown)

    # For HTTP

    async def submit(self, selector: Selector, key_id: str, *, soft: bool = False, address: str = "", again: str = "") -> str:
        """The request id, once the purge is durable. Raises :class:`agezero.ports.LogUnavailable`."""
        if again:
            asked = Submission((selector,), key_id, soft, address, idempotency_key=again, fingerprint=str(selector))
            return self._ids.seal((await self.submit_many(asked)).last)
        with tracing.appending():
            seq = await self._log.append(selector, key_id, soft=soft, address=address)
        purge_id = self._ids.seal(seq)
        tracing.durable(seq, purge_id)
        return purge_id

    async def submit_many(self, submission: Submission) -> Accepted:
        """See :meth:`agezero.ports.PurgeLog.append_many`."""
        with tracing.appending():
            accepted = await self._log.append_many(submission)
        if not accepted.repeated:
            tracing.durable(accepted.last, self._ids.seal(accepted.last))
        return accepted

    async def status(self, request_id: str) -> bool | None:
        """See :class:`ControlNode`."""
        return self.completed(request_id)

    def completed(self, request_id: str) -> bool | None:
        """Is it proven? None: not an id of this service. One comparison in memory. Raises :class:`agezero.ports.StatusUnknown`."""
        if not self.recovered.is_set():
            raise StatusUnknown(_RECOVERING)
        seq = self._ids.open(request_id)
        return None if seq is None else seq <= self.ledger.completed

    async def settle(self, seq: int) -> None:  # noqa: ARG002
        """See :class:`ControlNode`. There is nobody else who could have told anything."""
        if not self.recovered.is_set():
            raise StatusUnknown(self.ready() or "")

    def ready(self) -> str | None:
        """None once a purge can be proven and the start is over, else the reason why not."""
        if not self.recovered.is_set():
            return _RECOVERING
        return None if self.started else "the edge has no lease yet"

    def edges(self) -> list[EdgeView]:
        """All that were not removed, and those that still count."""
        head = self._log.head
        members = sorted(self.ledger.members.values(), key=lambda member: (member.record.tier, member.record.name))
        return [_view(member, head) for member in members if member.counts or not member.record.removed]

    async def remove_edge(self, name: str) -> bool:
        """A human says that the edge is gone for good. False: there is none of this name."""
        if not any(edge.name == name for edge in self.edges()):
            return False
        await self._carry_out(self.ledger.remove(name))
        return True

    async def drain_edge(self, name: str, drained: bool) -> bool:
        """See :class:`ControlNode`."""
        if not any(edge.name == name for edge in self.edges()):
            return False
        await self._carry_out(self.ledger.drain(name, drained))
        return True

    # For agents: the ControlSide port

    async def join(self, name: str, tier: int, fences: bool, lease_s: float | None = None, does: tuple[str, ...] = ()) -> int:
        """See :class:`agezero.ports.ControlSide`."""
        effects = self.ledger.join(name, tier, fences, time.monotonic(), lease_s, does)
        token = self.ledger.members[name].record.token
        await self._carry_out(effects)
        return token

    def look(self, tier: int) -> HeadKnown:
        """See :class:`agezero.ports.ControlSide`."""
        return HeadKnown(self._log.head, self._log.floor, self._log.epoch, self.ledger.released(tier))

    def watch(self, tier: int, changed: Callable[[HeadKnown], None]) -> None:
        """See :class:`agezero.ports.ControlSide`."""
        self._watchers.append((tier, changed))

    async def report(self, name: str, token: int, watermark: int, trouble: str) -> None:
        """See :class:`agezero.ports.ControlSide`."""
        self.ledger.report(name, token, watermark, trouble)
        self._told(name)

    async def renew(self, name: str, token: int, watermark: int) -> float:
        """See :class:`agezero.ports.ControlSide`."""
        *before, answer = self.ledger.renew(name, token, watermark, time.monotonic())
        self._told(name)
        if before:
            await self._carry_out(before)
        if isinstance(answer, Refuse):
            raise LeaseRefused(answer.reason)
        assert isinstance(answer, Grant)
        return answer.length_s

    async def leave(self, name: str, token: int) -> None:
        """See :class:`agezero.ports.ControlSide`."""
        await self._carry_out(self.ledger.leave(name, token))

    # The shell itself

    async def run(self) -> None:
        """Watch the leases until cancelled."""
        while True:
            self._moved()
            await self._carry_out(self.ledger.tick(time.monotonic()))
            await asyncio.sleep(TICK_S)

    async def _carry_out(self, effects: Iterable[Effect]) -> None:
        """Make records durable in the order in which the ledger changed them; one that can't be saved holds up those behind it."""
        async with self._saving:
            for effect in effects:
                assert isinstance(effect, Save)
                while True:
                    try:
                        await self._registry.save(effect.record)
                        break
                    except RegistryUnavailable as error:
                        log.warning("edge record not saved", edge=effect.record.name, error=str(error), retry_s=RETRY_S)
                        await asyncio.sleep(RETRY_S)
                self.ledger.saved(effect.record)
        self._moved()

    def _grown(self, head: int) -> None:
        self.ledger.appended(head, time.monotonic())
        self._log.trim_to = self.ledger.completed
        self._moved()

    def _told(self, name: str) -> None:
        self.progress.confirmed(name, self.ledger.members[name].watermark)
        self._moved()

    def _moved(self) -> None:
        """Something may have become complete, recovered or released."""
        if self.ledger.recovered:
            self.recovered.set()
            self.progress.complete(self.ledger.completed)
        self.progress.ring()
        released = {tier: self.ledger.released(tier) for tier, _ in self._watchers}
        before, self._released = self._released, released
        for tier, changed in self._watchers:
            if released[tier] != before.get(tier, released[tier]):
                changed(self.look(tier))


def _view(member: Member, head: int) -> EdgeView:
    record = member.record
    return EdgeView(
        record.name,
        state_of(record, member.standing.value),
        record.tier,
        member.watermark,
        max(0, head - member.watermark),
        record.does,
        member.trouble,
    )


def state_of(record: Record, standing: str) -> str:
    """For people."""
    if record.removed:
        return "removed"
    if record.drained:
        return "drained" if standing == "fenced" else "draining"
    return standing
