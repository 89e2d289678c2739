"""A log from elsewhere goes on in a stream: the same entries under the same seqs, and the same epoch, so that ids answer and edges go on.

It can be broken off and begun again: what is in the stream already has to be the beginning of what is brought.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from agezero.errors import UserError
from agezero.jetstream.appending import Appender
from agezero.jetstream.link import Link
from agezero.jetstream.names import LOG_STREAM, ONCE_STREAM
from agezero.jetstream.once import IDEMPOTENT_S, ONCE_BYTES_MAX, Claim, Once
from agezero.jetstream.stream import Origin, Seen, Shape, bucket_shape, ensure, look
from agezero.ports import Accepted, Submission

CHUNK = 500
"""Entries that are put into the stream at a time, all or none."""

Numbered = tuple[int, bytes]
"""Its seq, and an entry as it stands in the stream."""


async def begin_stream(link: Link, shape: Shape, epoch: str, floor: int, head: int) -> Seen:
    """The stream that goes on with the log ``epoch``, begun or as far as an earlier attempt came.

    Raises :class:`UserError` where there is another log, ``LinkFailed``.
    """
    there = await look(link, shape.name)
    if there is not None and (there.id != epoch or not floor <= there.head <= head):
        raise UserError(
            f"there is a purge log in NATS already (the stream {shape.name}), and it is not this one: ids of both could not be kept apart",
            "migrate before the first `agezero serve` or `agezero up` with log.url; or delete the streams of a fleet that nobody needs",
        )
    await ensure(link, bucket_shape(ONCE_STREAM, ONCE_BYTES_MAX, IDEMPOTENT_S))
    return await ensure(link, shape, origin=Origin(epoch, floor + 1))


async def bring(link: Link, entries: Iterable[Numbered], after: int) -> int:
    """Put those beyond ``after`` into the stream, which ends there; how many. Raises :class:`UserError`, ``LogUnavailable``."""
    appender = Appender(link, lambda: "", append_s=30)
    count = 0
    for chunk in _chunks((seq, entry) for seq, entry in entries if seq > after):
        first, last = chunk[0][0], chunk[-1][0]
        if first != after + 1 or last - first + 1 != len(chunk):
            raise UserError(f"the log has a gap after {after}", "it can't be moved; restore it from a backup")
        got = await appender.append([entry for _, entry in chunk])
        if got != last:
            raise UserError(
                f"an entry that should be {last} is {got} in the stream {LOG_STREAM}: somebody else writes to it",
                "end all control nodes, delete the stream, and begin again",
            )
        after, count = last, count + len(chunk)
    return count


async def bring_claim(link: Link, asked: Submission, accepted: Accepted) -> None:
    """An idempotency key that goes on to give the same id. Raises ``LinkFailed``, ``ApiError``, :class:`agezero.ports.Overtaken`."""
    await Once(link).adopt(asked, Claim(asked.fingerprint, accepted.first, accepted.last))


def _chunks(entries: Iterator[Numbered]) -> Iterator[Sequence[Numbered]]:
    while chunk := list(islice(entries, CHUNK)):
        yield chunk
