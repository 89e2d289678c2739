"""The purges in the stream, for people: newest first, oldest first, or one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from agezero.jetstream.cold import read_batch
from agezero.jetstream.entry import Stored, record_of
from agezero.jetstream.link import ApiError, LinkFailed
from agezero.jetstream.log import JetStreamLog
from agezero.jetstream.names import LOG_STREAM
from agezero.ports import LogUnavailable, PurgeRecord

ENTRIES_MAX = 20_000
"""Most entries in one answer, that of a single purge apart."""
SCAN = 500
"""Entries that are asked for at a time."""


class JetStreamHistory:
    """A :class:`agezero.ports.PurgeHistory`."""

    def __init__(self, purge_log: JetStreamLog) -> None:
        self._log = purge_log

    async def find(self, last: int) -> PurgeRecord | None:
        """See :class:`agezero.ports.PurgeHistory`."""
        if last <= self._log.floor:
            return None
        await self._heard_of(last)
        found = await self._read(last, last)
        return await self._record(found, found[-1]) if found and found[-1].ends else None

    async def before(self, seq: int, limit: int) -> Sequence[PurgeRecord]:
        """See :class:`agezero.ports.PurgeHistory`."""
        found: list[PurgeRecord] = []
        end = min(seq - 1, self._log.head)
        while end > self._log.floor and len(found) < limit:
            entries = await self._read(end - SCAN + 1, end)
            for stored in reversed(entries):
                if stored.ends and (record := await self._record(entries, stored)) is not None:
                    if not _room(found, record, limit):
                        return found
                    found.append(record)
            end = entries[0].seq - 1 if entries else self._log.floor
        return found

    async def after(self, seq: int, limit: int) -> Sequence[PurgeRecord]:
        """See :class:`agezero.ports.PurgeHistory`."""
        found: list[PurgeRecord] = []
        begin = max(seq, self._log.floor) + 1
        while begin <= self._log.head and len(found) < limit:
            entries = await self._read(begin, begin + SCAN - 1)
            for stored in entries:
                if stored.ends and (record := await self._record(entries, stored)) is not None:
                    if not _room(found, record, limit):
                        return found
                    found.append(record)
            begin = (entries[-1].seq if entries else self._log.head) + 1
        return found

    async def _record(self, around: Sequence[Stored], last: Stored) -> PurgeRecord | None:
        """None where retention has removed a part of it."""
        first = last.first
        entries = [each for each in around if first <= each.seq <= last.seq]
        if entries[0].seq != first:
            entries = await self._read(first, last.seq)
        return record_of(entries) if entries and entries[0].seq == first else None

    async def _heard_of(self, seq: int) -> None:
        """Another node may have appended it a moment ago. Raises :class:`LogUnavailable`."""
        if seq > self._log.head:
            try:
                await self._log.look()
            except LinkFailed as error:
                raise LogUnavailable(str(error)) from None

    async def _read(self, first: int, last: int) -> list[Stored]:
        """All entries of these that there are. Raises :class:`LogUnavailable`."""
        first, last = max(first, self._log.floor + 1), min(last, self._log.head)
        found: list[Stored] = []
        try:
            while first <= last:
                some = await read_batch(self._log.link, LOG_STREAM, first, last - first + 1)
                if not some:
                    raise LogUnavailable(f"entry {first} can't be read yet")
                found.extend(each for each in some if each.seq <= last)
                first = some[-1].seq + 1
        except (LinkFailed, ApiError) as error:
            raise LogUnavailable(str(error)) from None
        return list(_contiguous(found))


def _contiguous(found: Sequence[Stored]) -> Iterator[Stored]:
    """What retention removes while it is read leaves a gap at the beginning."""
    begin = 0
    for place in range(1, len(found)):
        if found[place].seq != found[place - 1].seq + 1:
            begin = place
    return iter(found[begin:])


def _room(found: Sequence[PurgeRecord], record: PurgeRecord, limit: int) -> bool:
    if not found:
        return True
    entries = sum(each.last - each.first + 1 for each in (*found, record))
    return len(found) < limit and entries <= ENTRIES_MAX
