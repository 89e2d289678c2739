"""The seams: what the core's shells need from the outside, each with more than one implementation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from agezero.core.ledger import Record, Superseded
from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from agezero.core.shared import Gate, Held, NotJoined, Write
from agezero.core.steps import HeadKnown


class LogUnavailable(Exception):
    """The log could not take the entry (disk full, no quorum), or not be read. What was not taken will never be acknowledged."""


class BelowFloor(Exception):
    """A reader asked for entries that retention has removed; it must purge everything."""


class IdempotencyConflict(Exception):
    """The idempotency key was used for another purge before."""


@dataclass(frozen=True, slots=True)
class Submission:
    """One purge of several selectors, and what is kept with it.

    ``fingerprint``: of all that was asked for; a submission of the same key and idempotency key counts as the same purge, if it has the same one.
    """

    selectors: tuple[Selector, ...]
    key_id: str
    soft: bool = False
    address: str = ""
    note: str = ""
    idempotency_key: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The entries of a purge: it is complete when ``last`` is, which is also what its id seals. ``repeated``: it had been accepted before."""

    first: int
    last: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class PurgeRecord:
    """An accepted purge, as retention has kept it. ``accepted_ms``: milliseconds since 1970, by the clock of who accepted it."""

    first: int
    last: int
    selectors: tuple[Selector, ...]
    key_id: str
    accepted_ms: int
    soft: bool = False
    address: str = ""
    note: str = ""


class PurgeLog(Protocol):
    """The durable, ordered log. Entries are contiguous in what ``read`` gives."""

    trim_to: int
    """Retention may remove entries up to here and no further; set by the control side to what is complete."""

    @property
    def epoch(self) -> str:
        """Changes when entries that were acknowledged may be missing; a seq is never reused, not even across epochs."""
        ...

    @property
    def head(self) -> int:
        """The highest seq that is durable; 0 for an empty log."""
        ...

    @property
    def floor(self) -> int:
        """The highest seq that retention has removed; entries begin at ``floor + 1``."""
        ...

    async def append(self, selector: Selector, key_id: str, *, soft: bool = False, address: str = "") -> int:
        """Durable on return; returns the seq. Raises :class:`LogUnavailable`."""
        ...

    async def append_many(self, submission: Submission) -> Accepted:
        """One entry for each selector, contiguous and in order; all of them durable on return, none after a failure.

        Raises :class:`LogUnavailable`, :class:`IdempotencyConflict`.
        """
        ...

    async def read(self, after: int, limit: int) -> Sequence[Purge]:
        """Up to ``limit`` entries with seq > ``after``, in order; empty at the head. Raises :class:`BelowFloor`, :class:`LogUnavailable`."""
        ...

    def subscribe(self, grown: Callable[[int], None]) -> None:
        """Tell ``grown`` each new head, before anybody who waits for it."""
        ...

    async def wait(self, after: int) -> None:
        """Return once ``head`` > ``after``."""
        ...


class PurgeHistory(Protocol):
    """The purges in the log with all that was kept of them, for people. Slow beside the log itself: it may read a disk.

    All methods raise :class:`LogUnavailable`. An answer may have fewer purges than asked for, but has one if there is one.
    """

    async def find(self, last: int) -> PurgeRecord | None:
        """The purge whose last entry this is; None where there is none, or retention has removed it."""
        ...

    async def before(self, seq: int, limit: int) -> Sequence[PurgeRecord]:
        """Purges with ``last`` < ``seq``, newest first."""
        ...

    async def after(self, seq: int, limit: int) -> Sequence[PurgeRecord]:
        """Purges with ``last`` > ``seq``, oldest first."""
        ...


class StatusUnknown(Exception):
    """For the moment no status can be given without the risk of taking one back. ``str()`` says why."""


class Registry(Protocol):
    """Where the control side keeps its members' records."""

    def load(self) -> list[Record]:
        """All records."""
        ...

    async def save(self, record: Record) -> None:
        """Durable on return. Raises :class:`RegistryUnavailable`."""
        ...


class RegistryUnavailable(Exception):
    """The record could not be saved; it may be tried again."""


class BoardUnavailable(Exception):
    """The board took nothing, or nobody knows whether it did; what it holds may be read again later."""


class Overtaken(Exception):
    """Somebody else has written to that key since, or there is more to be read before it may be written; look again."""


class Board(Protocol):
    """What several control nodes share: one order of entries, each written on condition that the key's last entry is a known one."""

    @property
    def loaded(self) -> asyncio.Event:
        """Set once all that was on the board has been told; clear while nothing is known of it."""
        ...

    def follow(self, told: Callable[[Held | Gate, int], None]) -> None:
        """Tell ``told`` each entry and its number, in order."""
        ...

    async def write(self, write: Write) -> int:
        """Durable, and told to those who follow here, on return; its number. Raises :class:`Overtaken`, :class:`BoardUnavailable`."""
        ...

    async def barrier(self) -> None:
        """On return, all that was written before the call, by anybody, has been told here. Raises :class:`BoardUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Document:
    """``at``: the number of the write that it is from."""

    at: int
    data: bytes


class Documents(Protocol):
    """A few named documents that several control nodes share. All of them are in memory here, soon after they are written anywhere."""

    def get(self, name: str) -> Document | None:
        """As it is known here."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Of all documents whose name begins so, sorted."""
        ...

    def watch(self, changed: Callable[[str], None]) -> None:
        """Call ``changed`` with the name of each document that is written, once it is known here."""
        ...

    async def put(self, name: str, data: bytes, after: int) -> int:
        """Durable, and known here, on return; its number. Only over the write ``after`` (0: if there is none); an empty one is as good as none.

        Raises :class:`Overtaken`, once it is known here by what, and :class:`BoardUnavailable`.
        """
        ...

    async def forget(self, prefix: str) -> None:
        """Take no more room for documents whose names begin so, with a dot at the end of ``prefix``; who has read them may go on knowing them.

        Raises :class:`BoardUnavailable`.
        """
        ...


class LeaseRefused(Exception):
    """The control side gives no lease now; ``str()`` says why."""


class ControlSide(Protocol):
    """What an agent asks of the control side, in the same process or over a network."""

    async def join(self, name: str, tier: int, fences: bool, lease_s: float | None = None, does: tuple[str, ...] = ()) -> int:
        """Take the edge over; returns the fencing token for all further calls.

        ``lease_s``: the length of its leases, None: the usual one. ``does``: its capabilities in words.
        """
        ...

    def look(self, tier: int) -> HeadKnown:
        """The log as it is now, for an edge of this tier."""
        ...

    def watch(self, tier: int, changed: Callable[[HeadKnown], None]) -> None:
        """Call ``changed`` whenever more is released to this tier."""
        ...

    async def report(self, name: str, token: int, watermark: int, trouble: str) -> None:
        """Acknowledge everything up to ``watermark``. Raises :class:`Superseded`."""
        ...

    async def renew(self, name: str, token: int, watermark: int) -> float:
        """The length of the lease in seconds, from when it was asked for. Raises :class:`LeaseRefused`, :class:`Superseded`."""
        ...

    async def leave(self, name: str, token: int) -> None:
        """The data plane has given its lease back, confirmed. Raises :class:`Superseded`."""
        ...


class DriverFailed(Exception):
    """The cache did not confirm. Nothing may be concluded: what was asked for may or may not have been done."""


class DriverRefused(DriverFailed):
    """The cache understood and cannot do it; a wider purge may succeed."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver does exactly; every other kind is widened before it gets there."""

    exact: frozenset[Kind]
    fences: bool
    """The data plane checks the lease itself; without it a dead edge holds purges up until it is removed by hand."""
    restores: bool
    """The driver keeps a durable purge table and can load it into a cache that lost its own."""
    soft: bool = False
    """A soft purge leaves the object to be served stale while it is revalidated; without it, every purge is hard."""
    method: str = ""
    """By what it purges, for people: "table", "purge and ban"."""

    @property
    def words(self) -> tuple[str, ...]:
        """For people: the kinds, narrow to wide, and whatever else it does."""
        more = {"soft": self.soft, "fences": self.fences, f"by {self.method}": bool(self.method)}
        return (*(kind.value for kind in Kind if kind in self.exact), *(word for word, can in more.items() if can))


@dataclass(frozen=True, slots=True)
class Lease:
    """Permission to serve from the cache, ``length_s`` seconds from the moment the agent asked for it (its own monotonic clock)."""

    token: int
    asked_at_s: float
    length_s: float


class EdgeDriver(Protocol):
    """One cache. All methods raise :class:`DriverFailed` where the cache did not confirm."""

    @property
    def capabilities(self) -> Capabilities:
        """What this driver does exactly."""
        ...

    def take_over(self, token: int) -> None:
        """All that follows is under this fencing token; the cache refuses a lower one from then on."""
        ...

    async def probe(self) -> str:
        """The cache's boot id, never empty: it changes whenever the cache may have lost its purge table."""
        ...

    async def restore(self, boot_id: str) -> None:
        """Load the purge table, as saved, into a cache that lost it. Confirmed on return."""
        ...

    async def apply(self, purges: Sequence[Purge]) -> None:
        """Apply; on return no request that arrives from now on is answered with anything they name that was stored or being fetched before."""
        ...

    async def purge_everything(self, seq: int) -> None:
        """Like ``apply`` for everything, as of ``seq``, whatever was applied before."""
        ...

    async def install(self, lease: Lease) -> None:
        """Let the cache serve from its store until the lease is over. Only after the table is complete."""
        ...

    async def fence(self) -> None:
        """End the lease; on return the cache serves nothing from its store."""
        ...

    async def aclose(self) -> None:
        """Let go of the cache. No call follows."""
        ...


__all__ = [
    "Accepted",
    "BelowFloor",
    "Board",
    "BoardUnavailable",
    "Capabilities",
    "ControlSide",
    "Document",
    "Documents",
    "DriverFailed",
    "DriverRefused",
    "EdgeDriver",
    "IdempotencyConflict",
    "Lease",
    "LeaseRefused",
    "LogUnavailable",
    "NotJoined",
    "Overtaken",
    "PurgeHistory",
    "PurgeLog",
    "PurgeRecord",
    "Registry",
    "RegistryUnavailable",
    "StatusUnknown",
    "Submission",
    "Superseded",
]
