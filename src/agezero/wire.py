"""What the native API answers with: the same structs encode it in the service and decode it in the client. Times are RFC 3339, in UTC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

Mode = Literal["hard", "soft"]
State = Literal["pending", "completed"]
EdgeStanding = Literal["confirmed", "pending", "fenced"]
Time = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]
PurgeId = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{24}$")]


class Named(msgspec.Struct, frozen=True):
    """A selector in its canonical form: ``value`` is empty for everything."""

    kind: Literal["url", "prefix", "tag", "host", "everything"]
    value: str


class Accepted(msgspec.Struct, frozen=True):
    """A purge that was accepted: it is durable. In a dry run there is no ``id``, and nothing was done.

    ``selectors``: as understood. ``warnings``: where more is purged than was asked for.
    """

    id: PurgeId | None
    mode: Mode
    selectors: Sequence[Named]
    warnings: Sequence[str]
    dry_run: bool = False


class EdgeProgress(msgspec.Struct, frozen=True):
    """How far an edge is with one purge.

    ``state``: ``fenced`` means that it bypasses its cache, and applies the purge before it serves from it again. ``confirmed_at`` is null where that
    was before the service started. ``method``: by what its driver purges. ``widened``: what it takes instead of what it can't do exactly.
    ``why``: why it is pending.
    """

    name: str
    tier: int
    state: EdgeStanding
    confirmed_at: Time | None
    method: str
    widened: Sequence[str]
    why: str


class Purge(msgspec.Struct, frozen=True):
    """A purge, as lists and events tell of it. ``selectors`` are the first 20 of ``selector_count``; ``key`` is the id of who asked for it."""

    id: PurgeId
    state: State
    mode: Mode
    selectors: Sequence[Named]
    selector_count: int
    note: str
    key: str
    accepted_at: Time
    completed_at: Time | None


class PurgeDetail(msgspec.Struct, frozen=True):
    """Everything about a purge. ``retained``: false where the log keeps no more of it than that it is complete.

    A time is null where it has not come, or was before the service started.
    """

    id: PurgeId
    state: State
    retained: bool
    mode: Mode
    selectors: Sequence[Named]
    note: str
    key: str
    accepted_at: Time | None
    first_edge_at: Time | None
    last_edge_at: Time | None
    completed_at: Time | None
    edges: Sequence[EdgeProgress]


class Check(msgspec.Struct, frozen=True):
    """What an edge answered now. ``saw``: the header's value, null without one; ``met``: null where nothing can be said, and ``why`` says so."""

    edge: str
    url: str
    at: Time
    status: int
    saw: str | None
    met: bool | None
    age: str
    cache_status: str
    why: str


class Evidence(msgspec.Struct, frozen=True):
    """Does each edge show what is expected? ``met``: null while the purge is pending, and where not all could be asked.

    It says nothing of the proof: that a purge is complete rests on what the caches have confirmed.
    """

    id: PurgeId
    state: State
    header: str
    value: str
    met: bool | None
    checks: Sequence[Check]
    why: str


class Purges(msgspec.Struct, frozen=True):
    """A page, newest first. ``cursor`` gives the next one, which may be short or even empty; null at the end."""

    purges: Sequence[Purge]
    cursor: str | None


class Edge(msgspec.Struct, frozen=True):
    """An edge. ``lag``: purges in the log that it has not confirmed. ``trouble``: why it does not go on, if anything."""

    name: str
    state: str
    tier: int
    watermark: int
    lag: int
    does: Sequence[str]
    trouble: str


class Edges(msgspec.Struct, frozen=True):
    """All edges, by tier and name."""

    edges: Sequence[Edge]


class AuditRow(msgspec.Struct, frozen=True):
    """Who did what, from where, when. ``key``: the id of the key, empty where there was none. ``about``: what it was done to."""

    at: Time
    action: str
    key: str
    address: str
    about: str


class AuditPage(msgspec.Struct, frozen=True):
    """A page, newest first. ``cursor`` gives the next one; null at the end."""

    rows: Sequence[AuditRow]
    cursor: str | None


class FieldError(msgspec.Struct, frozen=True):
    """What is wrong with one member of the body, such as ``urls/3`` (counted from 0)."""

    where: str
    detail: str


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """RFC 9457. ``detail``: what was wrong with this request; ``hint``: what to do next."""

    type: str
    title: str
    status: int
    detail: str = ""
    hint: str = ""
    errors: Sequence[FieldError] = ()
