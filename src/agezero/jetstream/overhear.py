"""Following the log without a consumer, for agents: the stream tells each entry once more as a plain message, and what was missed is fetched.

Theory: plain messages are lost without a word, so this is only about *when* an entry is known, never about whether. An entry is passed on only
behind the one before it. One that leaves a gap, silence, or a new connection has the stream looked at, and what lies between fetched from it. An
entry that is known late makes a purge late; a lease is renewed only by an edge that has applied what is complete.

Why no consumer: whoever may create one may choose the subject at which the server delivers, with the server's rights; and 10,000 agents would be
10,000 consumers.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from agezero.jetstream.cold import read_raw
from agezero.jetstream.link import ApiError, Link, LinkFailed, Message
from agezero.jetstream.names import FOLLOWED, LOG_STREAM
from agezero.jetstream.tail import AGAIN_S, Gap, Reader

log = structlog.get_logger()

QUIET_S = 1.0
"""After so long without an entry the stream is looked at."""
BATCH = 1_000
WAITING_MAX = 10_000
"""Entries that are kept while what lies before them is fetched; more are fetched themselves."""


class Headed(Reader, Protocol):
    """Who follows, and knows how far the stream goes."""

    head: int


@dataclass
class Overhearing:
    """Feeds ``reader`` from the log. ``run`` until cancelled."""

    link: Link
    reader: Headed
    quiet_s: float = QUIET_S
    fetched: int = 0
    """Entries that were fetched because they had not been told."""
    _next: int = 0  # the seq that is wanted next; 0 while what was missed is fetched
    _taken_s: float = 0.0
    _waiting: list[tuple[int, Message]] = field(default_factory=list)
    _doubt: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Follow for ever."""
        self.link.on_reconnected.append(self._doubt.set)
        end = await self.link.listen(FOLLOWED, self.heard)
        try:
            await self._follow()
        finally:
            end()

    def heard(self, message: Message) -> None:
        """An entry, told by the stream."""
        try:
            seq = int(message.headers["Nats-Sequence"])
        except (KeyError, ValueError):  # not told by the stream
            return
        if self._next:
            self._take(seq, message)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append((seq, message))

    async def _follow(self) -> None:
        complained = ""
        while True:
            self._doubt.clear()
            try:
                await self._catch_up()
                complained = ""
                await self._quiet()
            except (LinkFailed, ApiError, Gap) as error:
                if str(error) != complained:
                    log.warning("following a stream again", stream=LOG_STREAM, because=str(error))
                complained = str(error)
                await asyncio.sleep(AGAIN_S)

    async def _catch_up(self) -> None:
        self._next, self._waiting = 0, []
        wanted = await self.reader.begin()
        while wanted <= self.reader.head:
            found = await read_raw(self.link, LOG_STREAM, wanted, BATCH)
            if not found:
                raise Gap(f"entry {wanted} can't be read yet")
            for seq, data in found:
                self.reader.take(seq, "", data)
            self.fetched += len(found)
            wanted = found[-1][0] + 1
        self._next, waiting, self._waiting = wanted, self._waiting, []
        self._taken_s = time.monotonic()
        for seq, message in waiting:
            self._take(seq, message)

    def _take(self, seq: int, message: Message) -> None:
        """What comes a second time is left out, and doesn't break the silence either: the stream may have been restored."""
        if seq < self._next:
            return
        if seq > self._next:
            self._doubt.set()
            return
        try:
            self.reader.take(seq, message.subject, message.data)
        except Gap:
            self._doubt.set()
            return
        self._next, self._taken_s = seq + 1, time.monotonic()

    async def _quiet(self) -> None:
        """Return once nothing was taken for a while, or something is missing."""
        while not self._doubt.is_set() and (left_s := self._taken_s + self.quiet_s - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._doubt.wait()


__all__ = ["Headed", "Overhearing"]
