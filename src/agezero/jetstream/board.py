"""The board of the fleet's records, in a JetStream key-value bucket.

The bucket is a stream, so its sequence numbers are the one order that :mod:`agezero.core.shared` needs. A write is conditional on the
last entry of its key (``Nats-Expected-Last-Subject-Sequence``) and acknowledged by a quorum. All is read by one ordered consumer. A
barrier is a write to a key of our own: once it has come back through that consumer, so has all that was written before it. A mere read
would not do: a server that has lost its leadership and doesn't know it yet answers reads with what is old.

A key keeps its two newest entries only. So who is behind may be given a gate, and not the entry before it by which an edge counts, because a
renewal has taken its place further on. Therefore a gate is written, and a barrier returns, only while this reader is *abreast*: nothing stood
behind what it was given last. Whatever counted then has been read; what came later came with a later gate, over which no write succeeds. (Two
entries and not one: the server counts what is left a moment after it has stored an entry, and nobody renews twice within that moment.)
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import structlog

from agezero.core.shared import Gate, Held, Write
from agezero.errors import UserError
from agezero.jetstream import stream
from agezero.jetstream.link import WRONG_LAST, ApiError, Link, LinkFailed, answer, patient
from agezero.jetstream.names import BOARD_STREAM, BOARD_SUBJECTS, token
from agezero.jetstream.tail import Gap, Tail
from agezero.ports import BoardUnavailable, Overtaken

log = structlog.get_logger()

WRITE_S = 2.0
HISTORY = 2
"""Entries that a key keeps."""
BOARD_BYTES_MAX = 64 << 20
_GATE = f"{BOARD_SUBJECTS}gate"
_EDGE = f"{BOARD_SUBJECTS}edge."
_LAST = "Nats-Expected-Last-Subject-Sequence"
_LOST = "the fleet's records have lost entries that this control node has read, or were restored from a backup"

T = TypeVar("T")


@dataclass
class JetStreamBoard:
    """A :class:`agezero.ports.Board`. Made by :func:`open_board`; ``run`` until cancelled."""

    link: Link
    id: str
    write_s: float = WRITE_S
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    _taken: int = 0
    _abreast: bool = False
    _lost: bool = False  # what was written last stands where other entries stood
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _followers: list[Callable[[Held | Gate, int], None]] = field(default_factory=list)
    _newest: dict[str, tuple[int, Held | Gate]] = field(default_factory=dict)
    _own: str = field(default_factory=lambda: f"{BOARD_SUBJECTS}barrier.{uuid.uuid4().hex[:12]}")
    _under_way: asyncio.Future[None] | None = None
    _next: asyncio.Future[None] | None = None

    async def run(self) -> None:
        """Read the board for ever."""
        await Tail(self.link, BOARD_STREAM, self).run()

    def follow(self, told: Callable[[Held | Gate, int], None]) -> None:
        """See :class:`agezero.ports.Board`."""
        for seq, entry in sorted(self._newest.values(), key=lambda one: one[0]):
            told(entry, seq)
        self._followers.append(told)

    def highest(self) -> int:
        """The highest seq of a purge that anything here speaks of."""
        entries = (entry for _, entry in self._newest.values())
        return max((e.completed if isinstance(e, Gate) else e.watermark for e in entries), default=0)

    async def write(self, write: Write) -> int:
        """See :class:`agezero.ports.Board`."""
        if isinstance(write.entry, Gate) and not self.abreast:
            raise Overtaken("there is more on the board than has been read")
        return await self._in_time(self._seen(await self.write_unread(write)))

    @property
    def abreast(self) -> bool:
        """Has all been read that stood on the board when the last entry was delivered?"""
        return self._abreast

    async def write_unread(self, write: Write) -> int:
        """The same for who doesn't ``run``: durable on return."""
        entry = write.entry
        subject = _GATE if isinstance(entry, Gate) else _EDGE + token(entry.record.name)
        return await self._put(subject, msgspec.json.encode(entry), {_LAST: str(write.after)})

    async def barrier(self) -> None:
        """See :class:`agezero.ports.Board`. Calls that come while one is under way share the next."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._barrier(self._under_way))
            self._next.add_done_callback(lambda done: done.cancelled() or done.exception())  # all who wait may have given up
        await asyncio.shield(self._next)

    async def _barrier(self, before: asyncio.Future[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        self._under_way, self._next = self._next, None
        await self._in_time(self._all_seen(await self._put(self._own, b"", {})))

    async def _put(self, subject: str, data: bytes, headers: dict[str, str]) -> int:
        taken = self._taken
        try:
            at = int(answer(await self.link.ask(subject, data, headers, self.write_s))["seq"])
        except ApiError as error:
            if error.number in WRONG_LAST:
                raise Overtaken(str(error)) from None
            raise BoardUnavailable(str(error)) from None
        except LinkFailed as error:
            raise BoardUnavailable(str(error)) from None
        if at <= taken:  # a quorum has it, so that is certain; and to wait until it is read would be to wait for nothing
            self._lost = True
            self.loaded.clear()
            raise BoardUnavailable(_LOST)
        return at

    async def _seen(self, at: int) -> int:
        while self._taken < at:
            await self._arrived.wait()
        return at

    async def _all_seen(self, at: int) -> None:
        while self._taken < at or not self.abreast:
            await self._arrived.wait()

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self.write_s):
                return await work
        except TimeoutError:
            raise BoardUnavailable(f"the board of the fleet's records does not answer within {self.write_s:g} s") from None

    # What the tail delivers

    async def begin(self) -> int:
        """See :class:`agezero.jetstream.tail.Reader`."""
        taken = self._taken  # before the question: the answer may be older than what is delivered meanwhile
        seen = await stream.look(self.link, BOARD_STREAM)
        if seen is None:
            self.loaded.clear()
            raise LinkFailed("the fleet's records are gone; nothing is leased or proven until a control node is started again, which makes them anew")
        if seen.id != self.id:
            self.loaded.clear()
            raise UserError("the fleet's records were made anew while this control node was running", "start it again")
        if self._lost or seen.head < taken:
            await self._make_sure()
            raise LinkFailed(f"the fleet's records end at {seen.head}, says a server, but {taken} was read from them")
        return self._taken + 1

    async def _make_sure(self) -> None:
        """A server that has lost its leadership may say what is old; a write tells. What grew beyond what was read would hide the loss."""
        self.loaded.clear()
        with contextlib.suppress(BoardUnavailable):
            await self._put(self._own, b"", {})
        if self._lost:
            raise UserError(_LOST, "start it again")

    def take(self, seq: int, subject: str, data: bytes) -> None:
        """See :class:`agezero.jetstream.tail.Reader`."""
        kind: type[Held | Gate] | None = Gate if subject == _GATE else Held if subject.startswith(_EDGE) else None
        if kind is not None:
            entry = self._decoded(data, kind)
            self._newest[subject] = (seq, entry)
            for tell in self._followers:
                tell(entry, seq)
        self._taken = seq
        self._wake()

    def _decoded(self, data: bytes, kind: type[Held | Gate]) -> Held | Gate:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.MsgspecError as error:  # to skip it could be to forget an edge; so nothing goes on
            self.loaded.clear()
            raise Gap(f"an entry of the fleet's records is not understood: {error}") from None

    def caught_up(self) -> None:
        """See :class:`agezero.jetstream.tail.Reader`."""
        self._abreast = True
        self.loaded.set()
        self._wake()

    def behind(self) -> None:
        """See :class:`agezero.jetstream.tail.Reader`."""
        self._abreast = False

    def _wake(self) -> None:
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()


async def open_board(link: Link, bytes_max: int = BOARD_BYTES_MAX) -> JetStreamBoard:
    """Make the bucket, or check it. Raises :class:`UserError`, :class:`BoardUnavailable`."""
    try:
        seen = await patient(lambda: stream.ensure(link, stream.bucket_shape(BOARD_STREAM, bytes_max, history=HISTORY)))
    except LinkFailed as error:
        raise BoardUnavailable(str(error)) from None
    return JetStreamBoard(link, seen.id)
