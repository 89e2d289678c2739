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
from agezero.ports import BelowFloor, ControlSide, DriverFailed, DriverRefused, EdgeDriver, Lease, LeaseRefused, LogUnavailable, PurgeLog, Superseded

log = structlog.get_logger()

BEGIN_AGAIN_S = 1.0
READ_AGAIN_S = 1.0
READ_S = 5.0
"""A read of the log that finds nothing new answers empty after this long, so that no read waits for ever."""


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
        self._events: asyncio.Queue[steps.Event] = asyncio.Queue()
        self._group: asyncio.TaskGroup | None = None
        self._timer: asyncio.TimerHandle | None = None
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
                log.error("another agent has taken this edge over; this one ends", edge=self.name)
                superseded = True
            except* Exception:
                log.exception("the agent failed and begins again", edge=self.name, after_s=BEGIN_AGAIN_S)
                await asyncio.sleep(BEGIN_AGAIN_S)

    async def _live(self) -> None:
        self.follower, self._events = self._new_follower(), asyncio.Queue()
        capabilities = self._driver.capabilities
        self.token = await self._control.join(self.name, self.tier, capabilities.fences, self.lease_s, capabilities.words)
        self._driver.take_over(self.token)
        if not self.follower.position.doubt:
            await self._control.report(self.name, self.token, self.follower.watermark, "")
        self._events.put_nowait(self._control.look(self.tier))
        async with asyncio.TaskGroup() as self._group:
            await self._carry_out(self.follower.start())
            while True:
                await self._handle(await self._events.get())

    async def _handle(self, event: steps.Event) -> None:
        before = self.follower.state
        await self._carry_out(self.follower.handle(event, time.monotonic()))
        state = self.follower.state
        if state is not before:
            log.info("edge " + state, edge=self.name, was=before.value, watermark=self.follower.watermark, because=_reason(event))
        if state is State.FOLLOWING:
            self.serving.set()
        self._set_timer()

    def _head_known(self, head: steps.HeadKnown) -> None:
        self._events.put_nowait(head)

    def edge_restarted(self) -> None:
        """Whoever supervises the cache says that it has (re)started. Before ``run`` this is no news: the first thing it does is to probe."""
        if self._group is not None:
            self._spawn(self._probe(0))

    def _new_follower(self) -> Follower:
        capabilities = self._driver.capabilities
        return Follower(self._store.load(), capabilities.exact, capabilities.restores, self._limits, capabilities.soft)

    async def _carry_out(self, effects: list[steps.Effect]) -> None:
        for effect in effects:
            match effect:
                case steps.SaveWatermark(watermark, epoch):
                    await self._save(watermark, epoch)
                case steps.Acknowledge(watermark, trouble):
                    with tracing.confirming(self.name, watermark):
                        await self._control.report(self.name, self.token, watermark, trouble)
                case steps.Read(after, limit):
                    self._spawn(self._read(after, limit))
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
                    self._spawn(self._drive(step, self._driver.install(Lease(self.token, asked_at_s, length_s))))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        assert self._group is not None
        self._group.create_task(work)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wake_at_s = self.follower.wake_at_s()
        if wake_at_s is not None:
            delay_s = max(0.0, wake_at_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._events.put_nowait, steps.Tick())

    # Work that answers with one event

    async def _drive(self, step: int, work: Coroutine[object, object, None], purges: Sequence[Purge] = ()) -> None:
        try:
            with tracing.applying(self.name, purges):
                await work
        except DriverFailed as error:
            seqs = {"first_seq": purges[0].seq, "last_seq": purges[-1].seq} if purges else {}
            log.warning("edge did not confirm", edge=self.name, error=str(error), **seqs)
            self._events.put_nowait(steps.DriverFailed(step, str(error), isinstance(error, DriverRefused)))
        else:
            self._events.put_nowait(steps.DriverDone(step))

    async def _probe(self, step: int) -> None:
        try:
            self._events.put_nowait(steps.EdgeRestarted(await self._driver.probe()))
        except DriverFailed as error:
            self._events.put_nowait(steps.DriverFailed(step, str(error)))

    async def _read(self, after: int, limit: int) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(READ_S):
                    await self._log.wait(after)
            self._events.put_nowait(steps.Records(after, await self._log.read(after, limit)))
        except BelowFloor:
            self._events.put_nowait(self._control.look(self.tier))
        except LogUnavailable as error:
            log.warning("the log could not be read", edge=self.name, error=str(error), again_s=READ_AGAIN_S)
            await asyncio.sleep(READ_AGAIN_S)
            self._events.put_nowait(steps.Records(after, ()))

    async def _renew(self, watermark: int) -> None:
        asked_at_s = time.monotonic()
        self._events.put_nowait(self._control.look(self.tier))  # else an edge that cannot read the log would take itself for caught up
        try:
            length_s = await self._control.renew(self.name, self.token, watermark)
        except (LeaseRefused, Superseded) as refusal:  # the report that follows a lost lease ends a superseded agent
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
                await asyncio.sleep(1.0)


def _reason(event: steps.Event) -> str:
    match event:
        case steps.DriverFailed(_, error, _):
            return error
        case steps.LeaseLost(reason):
            return reason
        case _:
            return type(event).__name__
