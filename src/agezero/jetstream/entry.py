"""A purge as it stands in the stream: a JSON object, for people with NATS's own tools too.

A purge of several selectors has as many entries, one after the other: ``of`` says how many, ``rest`` how many of them follow. What is kept of such a
purge as a whole stands in its last one, which its id is made of.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec
import structlog

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.ports import PurgeRecord, Submission
from agezero.tracing import PARENT

log = structlog.get_logger()


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """``by``: the id of the key; ``ms``: when it was accepted, by the clock of the control node; ``at``: the client's address;
    ``trace``: in the last entry of a purge that is traced, its ``traceparent``."""

    kind: Kind
    value: str
    by: str
    ms: int
    soft: bool = False
    at: str = ""
    note: str = ""
    of: int = 1
    rest: int = 0
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry and its place. ``entry`` is None where it is not understood."""

    seq: int
    entry: Entry | None

    @property
    def purge(self) -> Purge:
        """For agents. What this version doesn't understand, of a newer one or of a stranger, purges everything: wider, never narrower."""
        entry = self.entry
        return Purge(self.seq, EVERYTHING) if entry is None else Purge(self.seq, Selector(entry.kind, entry.value), entry.soft, entry.trace)

    @property
    def first(self) -> int:
        """The first entry of the purge that this one belongs to."""
        return self.seq if self.entry is None else self.seq - (self.entry.of - self.entry.rest) + 1

    @property
    def ends(self) -> bool:
        """Is it the last one of its purge?"""
        return self.entry is None or self.entry.rest == 0


_DECODER = msgspec.json.Decoder(Entry)


def entries_of(submission: Submission, now_ms: int | None = None) -> list[bytes]:
    """For the stream, in order. ``now_ms``: when it was accepted; None: now."""
    return list(_encoded(submission, time.time_ns() // 1_000_000 if now_ms is None else now_ms))


def _encoded(asked: Submission, now_ms: int) -> Iterator[bytes]:
    count = len(asked.selectors)
    assert count, "a purge names something"
    return (encoded(asked, number, now_ms, count, count - number - 1) for number in range(count))


def encoded(asked: Submission, number: int, now_ms: int, of: int, rest: int) -> bytes:
    """The entry of one selector of ``asked``, of ``of`` in all, of which ``rest`` follow."""
    each = asked.selectors[number]
    note, trace = ("", "") if rest else (asked.note, PARENT.get())
    return msgspec.json.encode(Entry(each.kind, each.value, asked.key_id, now_ms, asked.soft, asked.address, note, of, rest, trace))


def decode(seq: int, data: bytes) -> Stored:
    """From the stream."""
    try:
        entry = _DECODER.decode(data)
        if not 0 <= entry.rest < entry.of:
            raise msgspec.ValidationError(f"{entry.rest} of {entry.of} entries follow")
    except msgspec.MsgspecError as error:
        log.error("an entry of the purge log is not understood; everything is purged", seq=seq, error=str(error))
        return Stored(seq, None)
    return Stored(seq, entry)


def record_of(stored: Sequence[Stored]) -> PurgeRecord:
    """A purge from all of its entries."""
    last = stored[-1].entry
    if last is None:
        return PurgeRecord(stored[-1].seq, stored[-1].seq, (EVERYTHING,), "", 0)
    selectors = tuple(each.purge.selector for each in stored)
    return PurgeRecord(stored[0].seq, stored[-1].seq, selectors, last.by, last.ms, last.soft, last.at, last.note)
