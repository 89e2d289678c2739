"""One of several control nodes: an asyncio shell round the ledger that they share.

Purges come in from HTTP (``submit``), reports and requests for leases from the agents. Whatever must outlive this process, or bind the other ones, is
written to the board first, and believed only once it is read from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from agezero import tracing
from agezero.control import EdgeView, state_of
from agezero.core.ledger import Grant, Refuse, Superseded
from agezero.core.purge import RequestIds
from agezero.core.selector import Selector
from agezero.core.shared import Gate, Held, Seat, SharedLedger, Write
from agezero.core.steps import HeadKnown
from agezero.ports import Accepted, Board, BoardUnavailable, LeaseRefused, LogUnavailable, NotJoined, Overtaken, PurgeLog, StatusUnknown, Submission
from agezero.progress import Progress

GATE_S = 0.01
"""The shortest time between two gates that this process writes."""
TICK_S = 0.25
"""How often leases are looked at."""
AGAIN_S = 0.5
ASK_S = 2.0
"""How often the records are asked whether they can be written, for ``/readyz``."""
POINTS_MAX = 512
"""Of an edge's timeline: 8 KiB an edge, where there may be thousands."""
LOOK_S = 0.5
"""How long a renewal may wait for the log to get to its watermark: agents may hear of an entry a little before this node does."""
GRANT_S = 2.0
"""How long a renewal may wait for its gate."""
_LOADING = "waiting for the board of the fleet's records"
_NEW = "the fleet's records are new: nothing is Completed until no edge can hold a lease of before"

log = structlog.get_logger()


class SharedControl:
    """One per process, within its event loop. ``lease_max_s``: no edge anywhere is given a longer lease. ``first_ever``: a human says that there
    were no edges before the board, so that no lease has to be waited for."""

    def __init__(  # noqa: PLR0913, PLR0917 - the parts are put together in one place
        self,
        purge_log: PurgeLog,
        board: Board,
        ids: RequestIds,
        lease_s: float,
        margin_s: float,
        lease_max_s: float = 60.0,
        *,
        first_ever: bool = False,
    ) -> None:
        self.log = self._log = purge_log
        self._board = board
        self.ids = self._ids = ids
        self.progress = Progress(POINTS_MAX)
        self.started = False
        """Set by whoever puts the parts together, once all of them run."""
        self._lease_max_s = max(lease_s, lease_max_s)
        self._margin_s = margin_s
        self.ledger = SharedLedger(lease_s, margin_s)
        self._cut_off = ""  # why the records can't be written, when that was asked last
        self._wanted = asyncio.Event()  # a gate may be due
        self._touch = False
        self._started_at = purge_log.head
        self._leases_over = first_ever and purge_log.head == purge_log.floor
        self._gated = asyncio.Event()
        self._beyond: dict[str, tuple[int, int, str]] = {}
        """By edge, what was last reported of more than is in the log, as far as is known here: to be believed once that has got there."""
        self._watchers: list[tuple[int, Callable[[HeadKnown], None]]] = []
        self._on_gate: list[Callable[[Gate], None]] = []
        self.progress.begin(purge_log.head, ())  # edges are known once the board is read
        board.follow(self._observe)
        purge_log.subscribe(self.progress.accepted)
        purge_log.subscribe(self._grown)

    # For HTTP

    async def submit(self, selector: Selector, key_id: str, *, soft: bool = False, address: str = "", again: str = "") -> str:
        """See :class:`agezero.control.ControlNode`."""
        if again:
            asked = Submission((selector,), key_id, soft, address, idempotency_key=again, fingerprint=str(selector))
            return self._ids.seal((await self.submit_many(asked)).last)
        completed = self.ledger.completed
        with tracing.appending():
            seq = await self._log.append(selector, key_id, soft=soft, address=address)
        self._unused(completed, seq)
        purge_id = self._ids.seal(seq)
        tracing.durable(seq, purge_id)
        return purge_id

    async def submit_many(self, submission: Submission) -> Accepted:
        """See :class:`agezero.control.ControlNode`."""
        completed = self.ledger.completed
        with tracing.appending():
            accepted = await self._log.append_many(submission)
        if not accepted.repeated:
            self._unused(completed, accepted.first)
            tracing.durable(accepted.last, self._ids.seal(accepted.last))
        return accepted

    @staticmethod
    def _unused(completed: int, first: int) -> None:
        """A purge whose seq was complete before it was made would be called so at once. Raises :class:`LogUnavailable`."""
        if first <= completed:
            raise LogUnavailable(f"a purge was given the seq {first}, but all up to {completed} are complete: the log has lost entries")

    async def status(self, request_id: str) -> bool | None:
        """See :class:`agezero.control.ControlNode`. A no is given only after looking whether another node has said yes before."""
        seq = self._ids.open(request_id)
        if seq is None:
            return None
        await self.settle(seq)
        return seq <= self.ledger.completed

    async def settle(self, seq: int) -> None:
        """See :class:`agezero.control.ControlNode`. A yes is on the board, so every node will say so; only a no has to be asked for."""
        if seq <= self.ledger.completed:
            return
        if (reason := self._unproven()) is not None:
            raise StatusUnknown(reason)
        try:
            await self._board.barrier()
        except BoardUnavailable as error:
            raise StatusUnknown(str(error)) from None

    def ready(self) -> str | None:
        """See :class:`agezero.control.ControlNode`."""
        return self._unproven() or self._cut_off or (None if self.started else "an edge of this process has no lease yet")

    def _unproven(self) -> str | None:
        """None once a purge can be proven, else the reason why not."""
        if not self._board.loaded.is_set():
            return _LOADING
        return f"{_NEW} ({self._lease_max_s + self._margin_s:g} s)" if self.ledger.gate is None else None

    async def recover(self) -> None:
        """Return once a purge can be proven."""
        while self._unproven() is not None:
            await self._board.loaded.wait()
            gated = self._gated
            if self.ledger.gate is None:
                await gated.wait()

    def edges(self) -> list[EdgeView]:
        """All that were not removed, and those that still count."""
        seats = sorted(self.ledger.seats.values(), key=lambda seat: (seat.record.tier, seat.record.name))
        return [_view(seat, self._log.head) for seat in seats if seat.counts or not seat.record.removed]

    async def remove_edge(self, name: str) -> bool:
        """See :class:`agezero.control.ControlNode`."""
        if not await self._listed(name):
            return False
        await self._written(lambda: self.ledger.remove(name))
        return True

    async def drain_edge(self, name: str, drained: bool) -> bool:
        """See :class:`agezero.control.ControlNode`."""
        if not await self._listed(name):
            return False
        await self._written(lambda: self.ledger.drain(name, drained))
        return True

    async def _listed(self, name: str) -> bool:
        """Does anybody know such an edge?"""
        if not any(edge.name == name for edge in self.edges()):
            await self._board.barrier()
        return any(edge.name == name for edge in self.edges())

    # For agents

    async def join(  # noqa: PLR0913, PLR0917 - what is known of an edge
        self, name: str, tier: int, fences: bool, lease_s: float | None = None, does: tuple[str, ...] = (), after: int | None = None
    ) -> int:
        """See :class:`agezero.ports.ControlSide`. ``after``: see :class:`agezero.jetstream.desk.Join`.

        Raises :class:`BoardUnavailable`, :class:`agezero.core.shared.Missed`.
        """
        if lease_s is not None and lease_s > self._lease_max_s:
            raise LeaseRefused(f"leases of {lease_s:g} s are longer than lease_max_s = {self._lease_max_s:g}")
        await self._board.loaded.wait()
        if after and not self._known(name, after):
            await self._board.barrier()
        write = await self._written(lambda: self.ledger.join(name, tier, fences, lease_s, does, after))
        assert write is not None
        assert isinstance(write.entry, Held)
        return write.entry.record.token

    def siblings(self, name: str) -> int:
        """See :class:`agezero.jetstream.desk.Desk`."""
        if name in self.ledger.seats:
            return 0
        host = name.partition(".")[0]
        return sum(seat.record.name.partition(".")[0] == host for seat in self.ledger.seats.values() if not seat.record.removed)

    def look(self, tier: int) -> HeadKnown:
        """See :class:`agezero.ports.ControlSide`."""
        return HeadKnown(self._log.head, self._log.floor, self._log.epoch, self.ledger.released(tier))

    def watch(self, tier: int, changed: Callable[[HeadKnown], None]) -> None:
        """See :class:`agezero.ports.ControlSide`."""
        self._watchers.append((tier, changed))

    def on_gate(self, told: Callable[[Gate], None]) -> None:
        """Tell ``told`` each gate that this process has written."""
        self._on_gate.append(told)

    async def report(self, name: str, token: int, watermark: int, trouble: str) -> None:
        """See :class:`agezero.ports.ControlSide`. Raises :class:`NotJoined` where the board doesn't know that token (yet)."""
        self.heard(name, token, watermark, trouble)

    def heard(self, name: str, token: int, watermark: int, trouble: str) -> None:
        """A report. Cheap, since each node hears all of them: what follows from it is worked out when a gate is due."""
        believed = 0 if watermark > self._log.head else watermark
        self.ledger.report(name, token, believed, trouble, time.monotonic())
        self._beyond.pop(name, None)
        if believed != watermark:
            self._beyond[name] = (token, watermark, trouble)
        self.progress.confirmed(name, believed)
        self.progress.ring()
        self._wanted.set()

    def gate(self) -> Gate | None:
        """The newest gate that is known."""
        return self.ledger.gate

    async def renew(self, name: str, token: int, watermark: int) -> float:
        """See :class:`agezero.ports.ControlSide`. Raises :class:`NotJoined` where the agent has to join again."""
        await self._in_the_log(name, watermark)
        try:
            async with asyncio.timeout(GRANT_S):
                if not self._known(name, token):
                    await self._board.barrier()
                await self._written(lambda: self._asked(name, token, watermark))
                return await self._granted(name, token, watermark)
        except (BoardUnavailable, TimeoutError) as error:
            raise LeaseRefused(f"the lease is not on record: {error}") from None

    async def _in_the_log(self, name: str, watermark: int) -> None:
        """Nobody has applied what is not in the log. On the board, such a watermark would say of the log that it had lost entries."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._log.wait(watermark - 1)
        if watermark > self._log.head:
            log.warning("an agent says that it has applied more than there is", edge=name, watermark=watermark, head=self._log.head)
            raise LeaseRefused(f"watermark {watermark} is beyond the purge log, which ends at {self._log.head}: nobody can have applied that")

    async def leave(self, name: str, token: int) -> None:
        """See :class:`agezero.ports.ControlSide`."""
        with contextlib.suppress(BoardUnavailable):  # then its lease runs out
            if not self._known(name, token):
                await self._board.barrier()
            await self._written(lambda: self.ledger.leave(name, token))

    # The shell itself

    async def run(self) -> None:
        """Keep the gate and the leases until cancelled."""
        await self._board.loaded.wait()
        self._wanted.set()  # the first gate: nobody may be there to ask for it
        async with asyncio.TaskGroup() as group:
            group.create_task(self._for_ever(self._keep_gate))
            group.create_task(self._for_ever(self._keep_leases))
            group.create_task(self._for_ever(self._keep_asking))

    async def _for_ever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except BoardUnavailable as error:
                log.warning("nothing can be put on record", error=str(error), again_s=AGAIN_S)
                self._wanted.set()  # what was to be written still is, and nobody else may ask for it
                await asyncio.sleep(AGAIN_S)

    async def _keep_asking(self) -> None:
        """Does a quorum answer? Of one that is gone, whoever only reads hears nothing."""
        try:
            await self._board.barrier()
        except BoardUnavailable as error:
            self._cut_off = f"the fleet's records can't be written: {error}"
        else:
            self._cut_off = ""
        await asyncio.sleep(ASK_S)

    async def _keep_gate(self) -> None:
        await self._wanted.wait()
        self._wanted.clear()
        await self._board.loaded.wait()
        if self.ledger.gate is None:
            await self._first_gate()
            return
        head, touch = self._log.head, self._touch
        write = self.ledger.touched(head) if touch else self.ledger.raised(head)
        if write is None:
            return
        self._touch = False
        try:
            await self._board.write(write)
        except (Overtaken, BoardUnavailable):  # by a gate of another node, perhaps: then that one may do
            self._touch |= touch  # or somebody else may want it by now
            self._wanted.set()
            await self._board.barrier()
            return
        for tell in self._on_gate:
            assert isinstance(write.entry, Gate)
            tell(write.entry)
        await asyncio.sleep(GATE_S)

    async def _first_gate(self) -> None:
        """A board without a gate is new: it may have lost its edges, together with the log, and their leases have to run out first."""
        if not self._leases_over:
            wait_s = self._lease_max_s + self._margin_s
            hint = "for a fleet that has never had an edge, `agezero serve --new-fleet` doesn't wait"
            log.warning(_NEW, wait_s=wait_s, hint=hint)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._gated.wait()  # another node may have waited for longer
            self._leases_over = True
            if self.ledger.gate is not None:
                return
        if (write := self.ledger.first(self._log.head, self._started_at)) is not None:
            try:
                await self._board.write(write)
            except Overtaken:
                await self._board.barrier()
                self._wanted.set()

    async def _keep_leases(self) -> None:
        await asyncio.sleep(TICK_S)
        for write in self.ledger.fences(time.monotonic()):
            assert isinstance(write.entry, Held)
            with contextlib.suppress(Overtaken):  # it was renewed, or another node was faster
                await self._board.write(write)
                log.warning("edge fenced: its lease is over", edge=write.entry.record.name, watermark=write.entry.watermark)

    def _grown(self, head: int) -> None:
        for name in [name for name, (_, watermark, _) in self._beyond.items() if watermark <= head]:
            with contextlib.suppress(Superseded, NotJoined):
                self.heard(name, *self._beyond.pop(name))
        self.progress.ring()
        self._wanted.set()

    def _observe(self, entry: Held | Gate, at: int) -> None:
        before = self.ledger.gate
        self.ledger.observe(entry, at, time.monotonic())
        if isinstance(entry, Gate):
            self._log.trim_to = entry.completed
            self.progress.complete(entry.completed)
            gated, self._gated = self._gated, asyncio.Event()
            gated.set()
            for tier, changed in self._watchers:
                if before is None or before.released.get(tier) != entry.released.get(tier):
                    changed(self.look(tier))
        else:
            self.progress.confirmed(entry.record.name, entry.watermark)
        self.progress.ring()
        self._wanted.set()

    def _known(self, name: str, token: int) -> bool:
        seat = self.ledger.seats.get(name)
        return seat is not None and seat.record.token >= token

    def _asked(self, name: str, token: int, watermark: int) -> Write:
        answer = self.ledger.renew(name, token, watermark, time.monotonic())
        if isinstance(answer, Refuse):
            raise LeaseRefused(answer.reason)
        return answer

    async def _granted(self, name: str, token: int, watermark: int) -> float:
        while True:
            gated = self._gated
            answer = self.ledger.granted(name, token, watermark)
            if isinstance(answer, Grant):
                return answer.length_s
            if isinstance(answer, Refuse):
                raise LeaseRefused(answer.reason)
            self._touch = True
            self._wanted.set()
            await gated.wait()

    async def _written(self, decide: Callable[[], Write | None]) -> Write | None:
        """Decide by what is known and write that; where it was known too late, again."""
        while (write := decide()) is not None:
            try:
                await self._board.write(write)
            except Overtaken:
                await self._board.barrier()
            else:
                return write
        return None


def _view(seat: Seat, head: int) -> EdgeView:
    record = seat.record
    state = state_of(record, "leased" if seat.counts else "fenced")
    return EdgeView(record.name, state, record.tier, seat.watermark, max(0, head - seat.watermark), record.does, seat.trouble)


__all__ = ["NotJoined", "SharedControl"]
