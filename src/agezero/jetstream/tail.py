"""Following a stream in order, without a gap.

Theory: a consumer of our own numbers what it delivers. An entry whose number is not the next one, a heartbeat that tells of entries we
did not get, silence, or a new connection all mean the same: throw the consumer away and begin another one right behind the last entry
that was passed on. So an entry can be late, and never skipped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from agezero.jetstream.link import ApiError, Link, LinkFailed, Message

log = structlog.get_logger()

HEARTBEAT_S = 1.0
SILENT_S = 3.0
"""A consumer unheard of for so long is given up."""
AGAIN_S = 0.25
_NS_PER_S = 1_000_000_000
_INACTIVE_S = 15
"""How long the server keeps the consumer of somebody who is gone."""


class Gap(Exception):
    """The consumer can't be relied on any more."""


class Reader(Protocol):
    """Who follows."""

    async def begin(self) -> int:
        """Look at the stream anew; returns the seq of the first entry wanted. Raises :class:`LinkFailed` where there is none to follow."""
        ...

    def take(self, seq: int, subject: str, data: bytes) -> None:
        """The next entry. Raises :class:`Gap` where it is not."""
        ...

    def caught_up(self) -> None:
        """Nothing stood in the stream behind the entry that was taken last, or the one wanted first, when that was delivered."""
        ...

    def behind(self) -> None:
        """Something did."""
        ...


@dataclass
class Tail:
    """Feeds ``reader`` from ``stream``. ``run`` until cancelled."""

    link: Link
    stream: str
    reader: Reader
    silent_s: float = SILENT_S
    following: bool = False
    """Is a consumer at work, as far as is known?"""
    _consumer: _Consumer | None = None

    async def run(self) -> None:
        """Follow for ever."""
        self.link.on_reconnected.append(lambda: self.begin_again("connected again"))
        complained = ""
        while True:
            try:
                await self._once()
            except (LinkFailed, ApiError, Gap) as error:
                self.following = False
                if str(error) != complained:
                    log.warning("following a stream again", stream=self.stream, because=str(error))
                complained = str(error)
            await asyncio.sleep(AGAIN_S)

    def begin_again(self, why: str) -> None:
        """Give the consumer up."""
        if self._consumer is not None:
            self._consumer.give_up(why)

    async def _once(self) -> None:
        first = await self.reader.begin()
        consumer = self._consumer = _Consumer(self.reader, time.monotonic())
        inbox = self.link.new_inbox()
        end = await self.link.listen(inbox, consumer.heard)
        try:
            made = await self.link.api(f"CONSUMER.CREATE.{self.stream}", {"stream_name": self.stream, "config": _config(inbox, first)})
            try:
                consumer.made(made.get("num_pending", 0))
                self.following = True
                await consumer.watch(self.silent_s)
            finally:
                with contextlib.suppress(LinkFailed, ApiError):
                    await self.link.publish(f"$JS.API.CONSUMER.DELETE.{self.stream}.{made['name']}", b"")
        finally:
            end()


@dataclass
class _Consumer:
    """One consumer, from its making until it is given up."""

    reader: Reader
    heard_s: float
    number: int = 0
    """The last delivery."""
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""

    def made(self, left: int) -> None:
        """The server says how many entries it is going to deliver."""
        if left == 0 and self.number == 0:
            self.reader.caught_up()

    def give_up(self, why: str) -> None:
        """Nothing that it delivers is taken from now on."""
        self.why = self.why or why
        self.broken.set()

    async def watch(self, silent_s: float) -> None:
        """Return never; raise :class:`Gap` once it is broken or silent."""
        while not self.broken.is_set():
            left_s = self.heard_s + silent_s - time.monotonic()
            if left_s <= 0:
                self.give_up("nothing was heard from it")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self.broken.wait()
        raise Gap(self.why)

    def heard(self, message: Message) -> None:
        """An entry or a heartbeat."""
        if self.broken.is_set():
            return
        self.heard_s = time.monotonic()
        try:
            if message.status:
                self._heartbeat(message)
            else:
                self._entry(message)
        except Gap as gap:
            self.give_up(str(gap))

    def _heartbeat(self, message: Message) -> None:
        if message.status != "100":
            raise Gap(f"the server says {message.status} {message.headers.get('Description', '')}".strip())
        if int(message.headers.get("Nats-Last-Consumer", self.number)) != self.number:
            raise Gap("entries were lost on the way")

    def _entry(self, message: Message) -> None:
        seq, number, left = _numbers(message.reply)
        if number != self.number + 1:
            raise Gap(f"delivery {number} instead of {self.number + 1}")
        self.reader.take(seq, message.subject, message.data)
        self.number = number
        if left == 0:
            self.reader.caught_up()
        else:
            self.reader.behind()


def _config(inbox: str, first: int) -> dict[str, object]:
    return {
        "deliver_policy": "by_start_sequence",
        "opt_start_seq": first,
        "deliver_subject": inbox,
        "ack_policy": "none",
        "replay_policy": "instant",
        "max_deliver": 1,
        "mem_storage": True,
        "num_replicas": 1,
        "idle_heartbeat": int(HEARTBEAT_S * _NS_PER_S),
        "inactive_threshold": _INACTIVE_S * _NS_PER_S,
    }


def _numbers(reply: str) -> tuple[int, int, int]:
    """Stream seq, consumer's number and what is left, from ``$JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.TRIES.SEQ.NUMBER.TIME.LEFT[.x]``."""
    parts = reply.split(".")
    if parts[:2] != ["$JS", "ACK"]:
        raise Gap("a message that is no entry")
    begin = 2 if len(parts) == 9 else 4
    return int(parts[begin + 3]), int(parts[begin + 4]), int(parts[begin + 6])
