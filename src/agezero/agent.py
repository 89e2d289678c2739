"""The agent: an asyncio shell round one edge's follower.

Events come in through a queue; the follower turns each into effects; effects are carried out in order. What takes time (reading the log,
driving the cache, asking for a lease) is a task that answers with exactly one event.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Coroutine, Sequence
from typing import Protocol

import structlog

from agezero import tracing
from agezero.core import steps
from agezero.core.follower import Follower, Limits, State
from agezero.core.position import Position
from agezero.core.purge import Purge
from agezero.ports import (
    BelowFloor,
    ControlSide,
    DriverFailed,
    DriverRefused,
    EdgeDriver,
    Lease,
    LeaseRefused,
    LogUnavailable,
    NotJoined,
    PurgeLog,
    Superseded,
)

log = structlog.get_logger()

BEGIN_AGAIN_S = 1.0
READ_AGAIN_S = 1.0
READ_S = 5.0
"""A read of the log that finds nothing new answers empty after this long, so that no read waits for ever."""
_WORDS: dict[type[steps.Event], str] = {
    steps.HeadKnown: "the log is known",
    steps.Records: "entries of the log have come",
    steps.DriverDone: "the cache has confirmed",
    steps.EdgeRestarted: "the cache has answered",
    steps.LeaseGranted: "a lease is granted",
    steps.LeaseLost: "no lease is granted",
    steps.Tick: "time has passed",
}


class PositionStore(Protocol):
    """Where an agent keeps how far it has come: durable before ``save`` returns."""

    def load(self) -> Position:
        """What was saved last."""
        ...

    def save(self, watermark: int, epoch: str) -> None:
        """Raises ``OSError``."""
        ...


class Agent:
    """Drives one edge through ``driver``. ``run`` until cancelled; ends by itself only when another agent has taken the edge over."""

    def __init__(  # noqa: PLR0913 - the parts are put together in one place, app
        self,
        name: str,
        driver: EdgeDriver,
        purge_log: PurgeLog,
        control: ControlSide,
        store: PositionStore,
        *,
        tier: int = 0,
        lease_s: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.tier = tier
        self.lease_s = lease_s
        self._driver = driver
        self._log = purge_log
        self._control = control
        self._store = store
        self._limits = limits or Limits()
        self.follower = self._new_follower()
        self._events: asyncio.Queue[steps.Event | None] = asyncio.Queue()  # None: probe
        self._group: asyncio.TaskGroup | None = None
        self._wanted: asyncio.Future[tuple[int, int]] | None = None  # of the reader that has nothing to read
        self._timer: asyncio.TimerHandle | None = None
        self._wake_at_s: float | None = None
        self._acknowledged = 0
        self._unread = False  # that the log could not be read was said
        self._on_their_way: set[float] = set()  # when the leases end that the driver was given and has not confirmed
        self._no_lease = ""  # why the last one that was asked for was not given
        self.token = 0
        self.serving = asyncio.Event()
        """Set once the edge has had its first lease."""

    async def run(self) -> None:
        """Join, then follow. After a fault of our own begin again from what is saved, as after a crash."""
        self._control.watch(self.tier, self._head_known)
        superseded = False
        while not superseded:
            try:
                await self._live()
            except* Superseded:
                hint = "if that was a mistake, give each edge a name of its own, and start both agents again"
                log.error("another agent has taken this edge over; this one ends", edge=self.name, hint=hint)
                superseded = True
            except* NotJoined as unknown:
                log.warning("the agent joins again", edge=self.name, because=str(unknown.exceptions[0]), after_s=BEGIN_AGAIN_S)
                await asyncio.sleep(BEGIN_AGAIN_S)
            except* Exception as failed:
                log.exception("the agent failed and begins again", edge=self.name, after_s=BEGIN_AGAIN_S)
                if self.token:
                    with contextlib.suppress(Superseded, NotJoined):
                        await self._complain(f"the agent failed and begins again: {_first(failed)!r}")
                await asyncio.sleep(BEGIN_AGAIN_S)

    async def _live(self) -> None:
        self.follower, self._events, self._wanted = self._new_follower(), asyncio.Queue(), None
        capabilities = self._driver.capabilities
        self.token = await self._control.join(self.name, self.tier, capabilities.fences, self.lease_s, capabilities.words)
        self._acknowledged = 0 if self.follower.position.doubt else self.follower.watermark
        self._driver.take_over(self.token)
        if not self.follower.position.doubt:
            await self._control.report(self.name, self.token, self._acknowledged, "")
        self._events.put_nowait(self._control.look(self.tier))
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await self._carry_out(self.follower.start())
                while True:
                    if (event := await self._events.get()) is None:
                        self._spawn(self._probe(0))
                    else:
                        await self._handle(event)
            finally:
                self._group = None

    async def _handle(self, event: steps.Event) -> None:
        before = self.follower.state
        await self._carry_out(self.follower.handle(event, time.monotonic()))
        state = self.follower.state
        if isinstance(event, steps.LeaseLost | steps.LeaseGranted):
            self._no_lease = event.reason if isinstance(event, steps.LeaseLost) else ""
        if state is not before:
            tell = log.warning if state in {State.FENCED, State.BACKING_OFF} else log.info
            tell("edge " + state, edge=self.name, was=before.value, watermark=self.follower.watermark, because=self._reason(event))
        if state is State.FOLLOWING:
            self.serving.set()
        self._set_timer()

    def _head_known(self, head: steps.HeadKnown) -> None:
        self._tell(head)

    @property
    def lease_on_its_way(self) -> bool:
        """Was a lease given up on its way to the cache? It may arrive late, after a fence too."""
        return bool(self._unconfirmed())

    def edge_restarted(self) -> None:
        """Whoever supervises the cache says that it has (re)started."""
        self._tell(None)

    def _tell(self, event: steps.Event | None) -> None:
        """Between two lives, and after the last one, nothing is news: each begins with a look at the log and a probe."""
        if self._group is not None:
            self._events.put_nowait(event)

    def _new_follower(self) -> Follower:
        capabilities = self._driver.capabilities
        return Follower(self._store.load(), capabilities.exact, capabilities.restores, self._limits, capabilities.soft)

    async def _carry_out(self, effects: list[steps.Effect]) -> None:
        for effect in effects:
            match effect:
                case steps.SaveWatermark(watermark, epoch):
                    await self._save(watermark, epoch)
                case steps.Acknowledge(watermark, trouble):
                    self._acknowledged = watermark
                    with tracing.confirming(self.name, watermark):
                        await self._control.report(self.name, self.token, watermark, trouble)
                case steps.Read(after, limit):
                    self._start_reading(after, limit)
                case steps.Renew(watermark):
                    self._spawn(self._renew(watermark))
                case steps.Probe(step):
                    self._spawn(self._probe(step))
                case steps.Sleep(min_s, max_s):
                    asyncio.get_running_loop().call_later(random.uniform(min_s, max_s), self._events.put_nowait, steps.Tick())  # noqa: S311
                case steps.Apply(step, purges):
                    self._spawn(self._drive(step, self._driver.apply(purges), purges))
                case steps.PurgeEverything(step, seq, _, reason):
                    log.warning("purging everything", edge=self.name, seq=seq, because=reason)
                    self._spawn(self._drive(step, self._driver.purge_everything(seq)))
                case steps.Restore(step, boot_id):
                    self._spawn(self._drive(step, self._driver.restore(boot_id)))
                case steps.Install(step, asked_at_s, length_s):
                    self._spawn(self._drive(step, self._install(Lease(self.token, asked_at_s, length_s))))

    async def _complain(self, trouble: str) -> None:
        """Say what keeps this edge, where the follower does not hear of it."""
        await self._control.report(self.name, self.token, self._acknowledged, trouble)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        assert self._group is not None
        self._group.create_task(work)

    def _set_timer(self) -> None:
        wake_at_s = self.follower.wake_at_s()
        if wake_at_s == self._wake_at_s:  # as after most events: a lease is renewed far more rarely than purges are applied
            return
        self._wake_at_s = wake_at_s
        if self._timer is not None:
            self._timer.cancel()
        if wake_at_s is not None:
            delay_s = max(0.0, wake_at_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._wake)

    def _wake(self) -> None:
        self._wake_at_s = None
        self._events.put_nowait(steps.Tick())

    # Work that answers with one event

    async def _drive(self, step: int, work: Coroutine[object, object, None], purges: Sequence[Purge] = ()) -> None:
        try:
            with tracing.applying(self.name, purges):
                await work
        except (DriverFailed, OSError) as error:  # the latter: of a file of the driver's own, as on a full disk
            seqs = {"first_seq": purges[0].seq, "last_seq": purges[-1].seq} if purges else {}
            log.warning("edge did not confirm", edge=self.name, error=str(error), **seqs)
            self._events.put_nowait(steps.DriverFailed(step, str(error), isinstance(error, DriverRefused)))
        else:
            self._events.put_nowait(steps.DriverDone(step))

    async def _install(self, lease: Lease) -> None:
        until_s = lease.asked_at_s + lease.length_s
        self._on_their_way = self._unconfirmed() | {until_s}
        await self._driver.install(lease)
        self._on_their_way.discard(until_s)

    def _unconfirmed(self) -> set[float]:
        now_s = time.monotonic()
        return {until_s for until_s in self._on_their_way if until_s > now_s}

    async def _probe(self, step: int) -> None:
        try:
            self._events.put_nowait(steps.EdgeRestarted(await self._driver.probe()))
        except (DriverFailed, OSError) as error:
            self._events.put_nowait(steps.DriverFailed(step, str(error)))

    def _start_reading(self, after: int, limit: int) -> None:
        """By the reader that waits for work; another one only while it still waits for the log, as after a reset."""
        wanted, self._wanted = self._wanted, None
        if wanted is None:
            self._spawn(self._keep_reading(after, limit))
        else:
            wanted.set_result((after, limit))

    async def _keep_reading(self, after: int, limit: int) -> None:
        """One task for many reads: to make one for each takes as long as what it does."""
        while True:
            await self._read(after, limit)
            if self._wanted is not None:
                return
            self._wanted = wanted = asyncio.get_running_loop().create_future()
            after, limit = await wanted

    async def _read(self, after: int, limit: int) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_S):
                    await self._log.wait(after)
            self._events.put_nowait(steps.Records(after, await self._log.read(after, limit)))
            if self._unread:
                self._unread = False
                await self._complain("")
        except BelowFloor:
            self._events.put_nowait(self._control.look(self.tier))
        except LogUnavailable as error:
            log.warning("the log could not be read", edge=self.name, error=str(error), again_s=READ_AGAIN_S)
            self._unread = True
            await self._complain(f"the log could not be read: {error}")
            await asyncio.sleep(READ_AGAIN_S)
            self._events.put_nowait(steps.Records(after, ()))

    async def _renew(self, watermark: int) -> None:
        asked_at_s = time.monotonic()
        self._events.put_nowait(self._control.look(self.tier))  # else an edge that cannot read the log would take itself for caught up
        try:
            length_s = await self._control.renew(self.name, self.token, watermark)
        except (LeaseRefused, NotJoined, Superseded) as refusal:  # after the two latter, the report that follows ends this life
            self._events.put_nowait(steps.LeaseLost(str(refusal)))
        else:
            self._events.put_nowait(steps.LeaseGranted(asked_at_s, length_s))

    async def _save(self, watermark: int, epoch: str) -> None:
        while True:
            try:
                self._store.save(watermark, epoch)
                return
            except OSError as error:  # nothing may be acknowledged before it is saved
                log.warning("watermark not saved", edge=self.name, error=str(error))
                await self._complain(f"the watermark could not be saved: {error}")
                await asyncio.sleep(1.0)

    def _reason(self, event: steps.Event) -> str:
        """For a change of state; that to ``fenced`` comes with whatever event is the first after the lease's end."""
        if isinstance(event, steps.DriverFailed):
            return event.error
        return (self._no_lease or "no new lease in time") if self.follower.state is State.FENCED else _WORDS[type(event)]


def _first(group: BaseExceptionGroup) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
