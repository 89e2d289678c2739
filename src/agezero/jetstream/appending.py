"""Bringing entries into the stream: all of a purge or none, and again until it is known what became of it.

Theory: one entry is published with a message id, so to send it again is safe: the stream answers with the seq that it has already. Several
entries are an *atomic batch* (NATS 2.12): they are put into the log at the commit, contiguous, or not at all. A batch that is sent again
is refused where its commit was taken before, by the message id that its last entry carries; then that entry alone, published once more, is
answered with its seq. That is believed only if the entries that stand there are the ones that were sent.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from agezero.jetstream.cold import read_batch
from agezero.jetstream.entry import decode
from agezero.jetstream.link import ApiError, Link, LinkFailed, answer
from agezero.jetstream.names import LOG_STREAM, LOG_SUBJECT
from agezero.ports import LogUnavailable

APPEND_S = 2.0
"""An append that is not acknowledged by then is refused."""
ATTEMPT_S = 0.7
AGAIN_S = 0.05
BATCHES_MAX = 16
"""Batches of this process under way; a server takes 50 for a stream."""
FULL = {10077: "the stream is full (max_bytes)", 10047: "the servers have no room left"}
DUPLICATE = 10201
"""The batch holds a message id that the stream has already."""
_PASSING = frozenset({10158, 10176, 10210, 10211})
"""The same message id is under way; a batch that was not complete at its commit (its leader went), or one too many at a time."""


class _Ack(msgspec.Struct):
    seq: int
    duplicate: bool = False


@dataclass
class Appender:
    """``hindered``: why no entry may be taken now; empty while one may."""

    link: Link
    hindered: Callable[[], str]
    append_s: float = APPEND_S
    _batches: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BATCHES_MAX))

    async def append(self, entries: Sequence[bytes]) -> int:
        """The seq of the last one, once a quorum has all of them. Raises :class:`LogUnavailable`; then they may be in the log all the same."""
        once = uuid.uuid4().hex
        end_s = time.monotonic() + self.append_s
        why = ""
        while (left_s := end_s - time.monotonic()) > 0:
            if lost := self.hindered():
                raise LogUnavailable(lost)
            try:
                return await self._attempt(entries, once, min(left_s, ATTEMPT_S))
            except ApiError as error:
                if error.number in FULL or (error.status != 503 and error.number not in _PASSING):  # it would say so again
                    raise LogUnavailable(FULL.get(error.number, str(error))) from None
                why = str(error)
            except LinkFailed as error:
                why = str(error)
            await asyncio.sleep(AGAIN_S)
        raise LogUnavailable(f"no quorum acknowledged the purge within {self.append_s:g} s: {why}")

    async def _attempt(self, entries: Sequence[bytes], once: str, timeout_s: float) -> int:
        if len(entries) == 1:
            return (await self._single(entries[0], once, timeout_s)).seq
        async with self._batches:
            try:
                return await self._batch(entries, once, timeout_s)
            except ApiError as error:
                if error.number != DUPLICATE:
                    raise
        return await self._taken_before(entries, once, timeout_s)

    async def _single(self, entry: bytes, once: str, timeout_s: float) -> _Ack:
        found = answer(await self.link.ask(LOG_SUBJECT, entry, {"Nats-Msg-Id": once}, timeout_s))
        return msgspec.convert(found, _Ack)

    async def _batch(self, entries: Sequence[bytes], once: str, timeout_s: float) -> int:
        batch = uuid.uuid4().hex
        for number, entry in enumerate(entries[:-1], 1):
            await self.link.publish(LOG_SUBJECT, entry, headers={"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)})
        last = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(entries)), "Nats-Batch-Commit": "1", "Nats-Msg-Id": once}
        found = answer(await self.link.ask(LOG_SUBJECT, entries[-1], last, timeout_s))
        if found.get("count") != len(entries):
            raise ApiError(0, 400, "the NATS servers don't know atomic batches; 2.12 is the oldest that will do")
        return msgspec.convert(found, _Ack).seq

    async def _taken_before(self, entries: Sequence[bytes], once: str, timeout_s: float) -> int:
        ack = await self._single(entries[-1], once, timeout_s)
        first = ack.seq - len(entries) + 1
        stored = await read_batch(self.link, LOG_STREAM, first, len(entries)) if ack.duplicate else []
        if stored != [decode(seq, entry) for seq, entry in enumerate(entries, first)]:
            raise LinkFailed("nobody knows where the entries are")
        return ack.seq
