"""The purge log in a JetStream stream, for a fleet.

Theory: the stream has one subject, and nothing but retention removes entries, so its sequence numbers are the seqs. An append is
acknowledged once a quorum has it (:mod:`agezero.jetstream.appending`). One whose answer was lost is repeated until its seq is known, or refused; the
client is told so, and the purge, should it be in the log all the same, is carried out like any other.

A stream that was deleted and made again has another id, which is the log's *epoch*. Whoever follows looks at it each time it begins anew.
Retention is explicit: control nodes purge the stream up to what is complete. The stream itself refuses entries when it is full, and drops none.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from agezero.background import background
from agezero.core.purge import Purge
from agezero.core.selector import Selector
from agezero.jetstream import stream
from agezero.jetstream.appending import Appender
from agezero.jetstream.cold import read_batch, read_raw
from agezero.jetstream.entry import decode, entries_of
from agezero.jetstream.link import ApiError, Link, LinkFailed, patient
from agezero.jetstream.names import LOG_STREAM, ONCE_STREAM
from agezero.jetstream.once import IDEMPOTENT_S, ONCE_BYTES_MAX, Once
from agezero.jetstream.overhear import Overhearing
from agezero.jetstream.tail import SILENT_S, Gap, Tail
from agezero.ports import Accepted, BelowFloor, LogUnavailable, Submission

log = structlog.get_logger()

TAIL = 10_000
"""How many of the newest entries are kept in memory."""
ARRIVAL_S = 0.5
"""How long a reader at the head waits for an entry that is on its way, before it fetches it."""
TRIM_S = 1.0
TRIM_EVERY = 10_000


@dataclass
class JetStreamLog:
    """A :class:`agezero.ports.PurgeLog`. Made by :func:`open_log`. ``trims``: this process removes what retention allows."""

    link: Link
    epoch: str
    head: int
    floor: int
    retention: int = 1_000_000
    trims: bool = False
    trim_to: int = 0
    """Set by the control side: everything up to here is complete, so retention may remove it."""
    silent_s: float = SILENT_S
    trim_s: float = TRIM_S
    wake_s: float = 0.0
    """Who waits for entries is woken at most that often: with many agents in one process, each then takes several at a time."""
    lost: str = ""
    """Why no entry may be taken: a seq would be used twice."""
    _certain: bool = False  # it is lost, whatever the stream says later: its entries are not the ones that were there
    _newest: tuple[int, bytes] = (0, b"")  # the newest entry that was taken, or acknowledged, here
    _tail: deque[Purge] = field(default_factory=lambda: deque(maxlen=TAIL))
    _taken: int = 0  # the newest entry that was delivered here
    _grown: asyncio.Event = field(default_factory=asyncio.Event)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _waking: bool = False
    _woken: int = 0  # the head that readers were woken for last
    _same: tuple[tuple[int, int, int], tuple[Purge, ...]] = ((0, 0, 0), ())  # the last answer: agents of one process ask for the same
    _on_grown: list[Callable[[int], None]] = field(default_factory=list)
    _complained_s: float = 0.0

    def __post_init__(self) -> None:
        self._taken = self._woken = self.head
        self._appender = Appender(self.link, lambda: self.lost)
        self._once = Once(self.link)

    async def run(self) -> None:
        """Follow the stream, and trim it, until cancelled."""
        async with asyncio.TaskGroup() as group:
            follow = Tail(self.link, LOG_STREAM, self, self.silent_s) if self.trims else Overhearing(self.link, self)
            group.create_task(follow.run())
            if self.trims:
                group.create_task(self._trim_for_ever())

    async def append(self, selector: Selector, key_id: str, *, soft: bool = False, address: str = "") -> int:
        """A quorum has it on return. Raises :class:`LogUnavailable`."""
        return (await self._append(Submission((selector,), key_id, soft, address))).last

    async def append_many(self, submission: Submission) -> Accepted:
        """See :meth:`agezero.ports.PurgeLog.append_many`. After a failure the purge may be in the log, all of it; then it is carried out."""
        if not submission.idempotency_key:
            return await self._append(submission)
        return await self._once.append(submission, self._append)

    async def _append(self, submission: Submission) -> Accepted:
        entries = entries_of(submission)
        before = self.head
        try:
            last = await self._appender.append(entries)
        except LogUnavailable as error:
            self._complain(str(error))
            raise
        first = last - len(entries) + 1
        if first <= before:
            raise LogUnavailable(self._rolled_back(f"a purge was given the seq {first}, but {before} was acknowledged before"))
        self._newest = max(self._newest, (last, entries[-1]))
        self._grow(last)
        return Accepted(first, last)

    async def read(self, after: int, limit: int) -> Sequence[Purge]:
        """See :meth:`agezero.ports.PurgeLog.read`."""
        self._check_floor(after)
        if after >= self.head:
            return []
        if after >= self._taken:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ARRIVAL_S):
                    await self._arrival(after)
        if self._tail and self._tail[0].seq <= after + 1 <= self._tail[-1].seq:
            if self._same[0] != (asked := (after, limit, self._taken)):
                begin = after + 1 - self._tail[0].seq
                self._same = asked, tuple([self._tail[i] for i in range(begin, min(begin + limit, len(self._tail)))])
            return self._same[1]
        return await self._fetch(after, limit)

    def subscribe(self, grown: Callable[[int], None]) -> None:
        """See :meth:`agezero.ports.PurgeLog.subscribe`. Also told when the epoch has changed."""
        self._on_grown.append(grown)

    async def wait(self, after: int) -> None:
        """See :meth:`agezero.ports.PurgeLog.wait`."""
        while (self._woken if self.wake_s else self.head) <= after:
            await self._grown.wait()

    # What the tail delivers

    async def begin(self) -> int:
        """See :class:`agezero.jetstream.tail.Reader`."""
        await self.look()
        await self._recognise()
        return max(self._taken, self.floor) + 1

    async def _recognise(self) -> None:
        """Is the newest entry still there? A log that was rolled back may have grown past it since, with others.

        Raises :class:`LinkFailed` where it's not, or where it can't be read.
        """
        newest, epoch = self._newest, self.epoch
        if newest[0] <= self.floor:
            return
        found = await read_raw(self.link, LOG_STREAM, newest[0], 1)
        if not found or found[0][0] != newest[0]:
            raise LinkFailed(f"entry {newest[0]} can't be read yet")
        if found[0] != newest and epoch == self.epoch:
            raise LinkFailed(self._rolled_back(f"entry {newest[0]} is not the one that was there before"))

    def _rolled_back(self, what: str) -> str:
        """For good, until the stream is made anew."""
        self._certain = True
        self.lost = f"{what}: the stream was restored from a backup, or has lost entries; delete it, and start the control nodes again"
        log.error("the purge log takes no entries", error=self.lost)
        return self.lost

    def take(self, seq: int, subject: str, data: bytes) -> None:  # noqa: ARG002
        """See :class:`agezero.jetstream.tail.Reader`."""
        if seq != self._taken + 1:
            raise Gap(f"entry {seq} instead of {self._taken + 1}")
        self._tail.append(decode(seq, data).purge)
        self._taken, self._newest = seq, max(self._newest, (seq, data))
        self._arrived = _wake(self._arrived)
        self._grow(seq)

    def caught_up(self) -> None:
        """See :class:`agezero.jetstream.tail.Reader`."""

    def behind(self) -> None:
        """See :class:`agezero.jetstream.tail.Reader`."""

    async def look(self) -> None:
        """Ask how far the stream goes, ahead of what is delivered. Raises :class:`LinkFailed`."""
        acknowledged = self.head  # before the question: the answer may be older than what is acknowledged meanwhile
        seen = await stream.look(self.link, LOG_STREAM)
        if seen is None:
            raise LinkFailed("the stream is gone; a control node makes it anew when it starts")
        self._learn(seen, acknowledged)

    def _learn(self, seen: stream.Seen, acknowledged: int) -> None:
        """What the stream itself says. What it removed before it was delivered here is left out of the tail, and readers meet the floor."""
        if seen.id != self.epoch:
            log.error("the purge log is another one; every edge purges everything first", was=self.epoch, epoch=seen.id, begins=seen.floor + 1)
            self.lost, self._certain, self._newest = "", False, (0, b"")
            self.epoch, self.head, self.floor, self._taken = seen.id, seen.head, seen.floor, seen.head
            self._tail.clear()
            self._tell()
            return
        if seen.head < acknowledged:
            self.lost = f"the stream ends at {seen.head}, but {acknowledged} was acknowledged: it was restored from a backup, or has lost entries"
            raise LinkFailed(self.lost)
        if not self._certain:
            self.lost = ""
        self.floor = max(self.floor, seen.floor)
        if self._taken < self.floor:
            self._tail.clear()
            self._taken = self.floor
        self._grow(seen.head)

    def _grow(self, head: int) -> None:
        if head > self.head:
            self.head = head
            self._tell()

    def _tell(self) -> None:
        for tell in self._on_grown:
            tell(self.head)
        if not self.wake_s:
            self._grown = _wake(self._grown)
        elif not self._waking:
            self._waking = True
            asyncio.get_running_loop().call_later(self.wake_s, self._wake_readers)

    def _wake_readers(self) -> None:
        self._waking, self._woken = False, self.head
        self._grown = _wake(self._grown)

    async def _arrival(self, after: int) -> None:
        while self._taken <= after:
            await self._arrived.wait()

    # What is older than the tail

    async def _fetch(self, after: int, limit: int) -> Sequence[Purge]:
        try:
            found = await read_batch(self.link, LOG_STREAM, after + 1, min(limit, self.head - after))
            if not found or found[0].seq != after + 1:  # gone, of another epoch, or not yet where it was looked for
                await self.look()
                self._check_floor(after)
                raise LogUnavailable(f"entry {after + 1} can't be read yet")
        except (LinkFailed, ApiError) as error:
            raise LogUnavailable(str(error)) from None
        return [stored.purge for stored in found]

    def _check_floor(self, after: int) -> None:
        if after < self.floor:
            raise BelowFloor(f"entries up to {self.floor} are gone, {after + 1} was asked for")

    # Retention

    async def _trim_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self.trim_s)
            floor = min(self.head - self.retention, self.trim_to)
            if floor - self.floor < min(TRIM_EVERY, self.retention):
                continue
            try:
                floor = await self._whole(floor)
                await self.link.api(f"STREAM.PURGE.{LOG_STREAM}", {"seq": floor + 1})
                await self.look()
            except (LinkFailed, ApiError) as error:
                log.warning("the purge log was not trimmed", error=str(error), again_s=self.trim_s)

    async def _whole(self, floor: int) -> int:
        """A purge goes as a whole: its beginning stays while its end does."""
        found = await read_batch(self.link, LOG_STREAM, floor, 1)
        return floor if not found or found[0].seq != floor or found[0].ends else found[0].first - 1

    def _complain(self, why: str) -> None:
        """Once a second."""
        now_s = time.monotonic()
        if now_s >= self._complained_s + 1:
            self._complained_s = now_s
            log.error("the purge log takes no entries", error=why)


async def open_log(link: Link, shape: stream.Shape | None = None, *, beyond: int = 0, retention: int = 1_000_000) -> JetStreamLog:
    """For a control node with the ``shape`` the stream has to have; without one, for an agent, which makes and trims nothing.

    ``beyond``: no seq up to here is given out by a stream that is made now. Raises :class:`UserError`, :class:`LogUnavailable`.
    """
    try:
        seen = await patient(lambda: stream.look_as_agent(link) if shape is None else _ensure(link, shape, beyond))
    except LinkFailed as error:
        raise LogUnavailable(str(error)) from None
    if seen is None:
        raise LogUnavailable(f"there is no stream {LOG_STREAM} yet; a control node makes it when it starts")
    return JetStreamLog(link, seen.id, seen.head, seen.floor, retention, trims=shape is not None)


async def _ensure(link: Link, shape: stream.Shape, beyond: int) -> stream.Seen:
    """The stream, and the bucket of idempotency keys."""
    await stream.ensure(link, stream.bucket_shape(ONCE_STREAM, ONCE_BYTES_MAX, IDEMPOTENT_S))
    seen = await stream.ensure(link, shape, beyond)
    if seen.replicas < stream.REPLICAS:
        hint = f"run a cluster of three NATS servers; there, `nats stream edit {LOG_STREAM} --replicas 3` spreads what is here, likewise the buckets"
        log.warning("ONE server keeps all purges: while it is away none is accepted, and with it they are lost", replicas=seen.replicas, hint=hint)
    return seen


@contextlib.asynccontextmanager
async def following(purge_log: JetStreamLog) -> AsyncIterator[JetStreamLog]:
    """``purge_log`` at work while the block lasts; if it fails, the block does too."""
    async with background(purge_log.run()):
        yield purge_log


def _wake(event: asyncio.Event) -> asyncio.Event:
    """Wake all who wait; returns the event for those who wait next."""
    event.set()
    return asyncio.Event()


__all__ = ["JetStreamLog", "following", "open_log"]
