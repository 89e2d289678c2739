"""Named documents in a JetStream key-value bucket, mirrored in memory: :class:`agezero.ports.Documents`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from agezero.errors import UserError
from agezero.jetstream.link import WRONG_LAST, ApiError, Link, LinkFailed, Nobody, answer, patient
from agezero.jetstream.stream import bucket_shape, ensure, look
from agezero.jetstream.tail import Tail
from agezero.ports import BoardUnavailable, Document, Overtaken

log = structlog.get_logger()

WRITE_S = 2.0
AGAIN_S = 0.05
BYTES_MAX = 256 << 20
_LAST = "Nats-Expected-Last-Subject-Sequence"


@dataclass
class Bucket:
    """Made by :func:`open_bucket`; ``run`` until cancelled. Names are tokens of a subject, with dots between them."""

    link: Link
    stream: str
    id: str
    write_s: float = WRITE_S
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    _known: dict[str, Document] = field(default_factory=dict)
    _taken: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _watchers: list[Callable[[str], None]] = field(default_factory=list)

    async def run(self) -> None:
        """Read the bucket for ever."""
        await Tail(self.link, self.stream, self).run()

    def get(self, name: str) -> Document | None:
        """See :class:`agezero.ports.Documents`."""
        return self._known.get(name)

    def names(self, prefix: str) -> list[str]:
        """See :class:`agezero.ports.Documents`."""
        return sorted(name for name, document in self._known.items() if document.data and name.startswith(prefix))

    def watch(self, changed: Callable[[str], None]) -> None:
        """See :class:`agezero.ports.Documents`."""
        self._watchers.append(changed)

    async def put(self, name: str, data: bytes, after: int) -> int:
        """See :class:`agezero.ports.Documents`."""
        try:
            async with asyncio.timeout(self.write_s):
                at = await self._written(name, data, after)
                while self._taken < at:
                    await self._arrived.wait()
                return at
        except (ApiError, LinkFailed) as error:
            raise BoardUnavailable(str(error)) from None
        except TimeoutError:
            raise BoardUnavailable(f"what control nodes share does not answer within {self.write_s:g} s") from None

    async def _written(self, name: str, data: bytes, after: int) -> int:
        while True:
            try:
                return int(answer(await self.link.ask(self._subject(name), data, {_LAST: str(after)}, self.write_s))["seq"])
            except Nobody:  # not done: of a bucket that another node has just made, a server hears a little later
                await asyncio.sleep(AGAIN_S)
            except ApiError as error:
                if error.number not in WRONG_LAST:
                    raise
                break
        while self._at(name) == after:  # until it is known what overtook it, to try again is to be overtaken again
            await self._arrived.wait()
        raise Overtaken(name)

    def _at(self, name: str) -> int:
        known = self._known.get(name)
        return known.at if known else 0

    async def forget(self, prefix: str) -> None:
        """See :class:`agezero.ports.Documents`."""
        try:
            await self.link.api(f"STREAM.PURGE.{self.stream}", {"filter": self._subject(prefix) + ">"})
        except (ApiError, LinkFailed) as error:
            raise BoardUnavailable(str(error)) from None
        for name in self.names(prefix):
            del self._known[name]

    def _subject(self, name: str) -> str:
        return f"$KV.{self.stream.removeprefix('KV_')}.{name}"

    # What the tail delivers

    async def begin(self) -> int:
        """See :class:`agezero.jetstream.tail.Reader`."""
        taken = self._taken  # before the question: the answer may be older than what is delivered meanwhile
        seen = await look(self.link, self.stream)
        if seen is None:
            raise LinkFailed(
                f"what control nodes share is gone, the stream {self.stream}: restore it if there is a backup, then start all control nodes again"
            )
        if seen.id != self.id:
            raise UserError("what control nodes share was made anew while this one was running", "start it again")
        if seen.head < taken:
            raise LinkFailed(f"what control nodes share ends at {seen.head}, but {taken} was read: it was restored, or has lost entries")
        return self._taken + 1

    def take(self, seq: int, subject: str, data: bytes) -> None:
        """See :class:`agezero.jetstream.tail.Reader`."""
        name = subject.removeprefix(self._subject(""))
        self._known[name] = Document(seq, data)
        self._taken = seq
        for tell in self._watchers:
            tell(name)
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()

    def caught_up(self) -> None:
        """See :class:`agezero.jetstream.tail.Reader`."""
        self.loaded.set()

    def behind(self) -> None:
        """See :class:`agezero.jetstream.tail.Reader`."""


async def open_bucket(link: Link, name: str, bytes_max: int = BYTES_MAX) -> Bucket:
    """Make the bucket of this stream, or check it. Raises :class:`UserError`, :class:`BoardUnavailable`."""
    try:
        seen = await patient(lambda: ensure(link, bucket_shape(name, bytes_max)))
    except LinkFailed as error:
        raise BoardUnavailable(str(error)) from None
    return Bucket(link, name, seen.id)
