"""Idempotency keys, in a JetStream key-value bucket: whichever node a repeated request comes to, it finds what was accepted.

Theory: a request first *claims* its key: it writes what it is a request for, on condition that there is nothing. Then it appends, then it writes
down which entries those are, over what it has read. Who finds a claim without entries waits for them as long as an append may take, and then
appends itself: whoever claimed it is dead, or late. Of two that have both appended one writes; the other takes that one's answer. So a key has
one answer; at worst its purge was carried out twice. The servers forget a key after a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace

import msgspec

from agezero.jetstream.link import WRONG_LAST, ApiError, Link, LinkFailed, answer
from agezero.jetstream.names import ONCE_STREAM, ONCE_SUBJECTS
from agezero.jetstream.stream import last_of
from agezero.ports import Accepted, IdempotencyConflict, LogUnavailable, Overtaken, Submission

IDEMPOTENT_S = 24 * 3600
"""How long an idempotency key is remembered."""
ONCE_BYTES_MAX = 256 << 20
CLAIM_S = 3.0
"""How long a claim is waited for: longer than an append takes."""
LOOK_S = 0.05
_LAST = "Nats-Expected-Last-Subject-Sequence"


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """``last`` is 0 until the entries are in the log."""

    fingerprint: str
    first: int = 0
    last: int = 0


@dataclass
class Once:
    """One per process."""

    link: Link
    claim_s: float = CLAIM_S
    _busy: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def append(self, asked: Submission, append: Callable[[Submission], Awaitable[Accepted]]) -> Accepted:
        """Append ``asked`` unless it was before. Raises :class:`LogUnavailable`, :class:`IdempotencyConflict`."""
        subject = _subject(asked)
        async with self._alone(subject):
            try:
                return await self._append(subject, asked, append)
            except (LinkFailed, ApiError) as error:
                raise LogUnavailable(f"the idempotency key is not on record: {error}") from None

    async def adopt(self, asked: Submission, claim: Claim) -> None:
        """What was accepted elsewhere, over what is known here. Raises ``LinkFailed``, ``ApiError``, :class:`Overtaken`."""
        subject = _subject(asked)
        if await self._put(subject, claim, 0) is not None:
            return
        known = await last_of(self.link, ONCE_STREAM, subject)
        if known is not None and msgspec.json.decode(known.data, type=Claim) == claim:
            return
        if await self._put(subject, claim, known.seq if known else 0) is None:
            raise Overtaken(asked.idempotency_key)

    async def _append(self, subject: str, asked: Submission, append: Callable[[Submission], Awaitable[Accepted]]) -> Accepted:
        at = await self._put(subject, Claim(asked.fingerprint), 0)
        if at is None:
            claim, at = await self._found(subject, asked)
            if claim.last:
                return Accepted(claim.first, claim.last, repeated=True)
        accepted = await append(asked)
        if await self._put(subject, Claim(asked.fingerprint, accepted.first, accepted.last), at) is None:
            claim, _ = await self._found(subject, asked)
            return Accepted(claim.first, claim.last, repeated=True) if claim.last else accepted
        return replace(accepted, repeated=False)

    async def _found(self, subject: str, asked: Submission) -> tuple[Claim, int]:
        """What is on record, once it has its entries or they are overdue."""
        end_s = time.monotonic() + self.claim_s
        while True:
            found = await last_of(self.link, ONCE_STREAM, subject)
            if found is not None:
                claim = msgspec.json.decode(found.data, type=Claim)
                if claim.fingerprint != asked.fingerprint:
                    raise IdempotencyConflict(asked.idempotency_key)
                if claim.last or time.monotonic() >= end_s:
                    return claim, found.seq
            elif time.monotonic() >= end_s:
                raise LinkFailed("it can't be read")
            await asyncio.sleep(LOOK_S)

    async def _put(self, subject: str, claim: Claim, after: int) -> int | None:
        """Its number; None where somebody else has written since."""
        try:
            return int(answer(await self.link.ask(subject, msgspec.json.encode(claim), {_LAST: str(after)}))["seq"])
        except ApiError as error:
            if error.number in WRONG_LAST:
                return None
            raise

    @contextlib.asynccontextmanager
    async def _alone(self, subject: str) -> AsyncIterator[None]:
        """One at a time of this process: the others find its answer."""
        lock = self._busy.setdefault(subject, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and self._busy.get(subject) is lock:
                del self._busy[subject]


def _subject(asked: Submission) -> str:
    """An idempotency key is one API key's own."""
    return ONCE_SUBJECTS + hashlib.sha256(f"{asked.key_id}\0{asked.idempotency_key}".encode()).hexdigest()[:40]
