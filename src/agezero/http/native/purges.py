"""``POST /v1/purges``, ``GET /v1/purges`` and ``GET /v1/purges/{id}``."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, cast

import msgspec
import structlog
from starlette.types import Receive, Scope

from agezero import wire
from agezero.core.endpoint import Endpoint
from agezero.core.request import SELECTORS_MAX, Asked, Bounds, Understood, understand
from agezero.core.selector import Selector
from agezero.core.wildcards import Wildcards
from agezero.http.body import read_body
from agezero.http.faults import PURGE_BYTES_MAX, Fault, Refused, retry_after
from agezero.http.gate import Visitor, client_address
from agezero.http.imagekit import LOG_RETRY_S, STATUS_RETRY_S
from agezero.http.metrics import HttpMetrics
from agezero.http.native.parameters import Query, idempotency_key
from agezero.http.reply import JSON, Header, Reply
from agezero.journal import InvalidCursor, Journal, Sees, Wanted
from agezero.ports import IdempotencyConflict, LogUnavailable, PurgeRecord, StatusUnknown, Submission

PURGES_PATH = "/v1/purges"
PURGE_PREFIX = PURGES_PATH + "/"
EVENTS_SUFFIX = "/events"
NOTE_CHARACTERS_MAX = 500
ERRORS_MAX = 100
LIST = ("state", "tag", "url", "key", "since", "limit", "cursor")
_REPEATED: Header = (b"idempotency-replayed", b"true")

_log = structlog.get_logger(__name__)


def _texts(description: str, *examples: str) -> object:
    return msgspec.Meta(max_length=SELECTORS_MAX, description=description, examples=[list(examples)])


class NativePurge(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to purge: at least one selector, at most 1,000 in all."""

    urls: Annotated[Sequence[str], _texts("A * at the end takes all that begins so.", "https://cdn.example.com/photos/cat.jpg")] = ()
    prefixes: Annotated[Sequence[str], _texts("Everything that begins so.", "https://cdn.example.com/photos/")] = ()
    tags: Annotated[Sequence[str], _texts("Everything that its origin gave this tag.", "product-42")] = ()
    hosts: Annotated[Sequence[str], _texts("Everything of a host.", "cdn.example.com")] = ()
    assets: Annotated[Sequence[str], _texts("A file with all its transformations.", "https://cdn.example.com/photos/cat.jpg")] = ()
    everything: bool = False
    mode: Annotated[wire.Mode, msgspec.Meta(description="soft: may be served stale while it is revalidated.")] = "hard"
    dry_run: Annotated[bool, msgspec.Meta(description="Say what would be purged, and do nothing.")] = False
    note: Annotated[str, msgspec.Meta(max_length=NOTE_CHARACTERS_MAX, description="For people: why.")] = ""


_decode = msgspec.json.Decoder(NativePurge).decode


def sees(visitor: Visitor) -> Sees:
    """Which purges a key may see: all, or those that it could have asked for."""
    endpoints = visitor.endpoints
    if endpoints is None:
        return lambda _: True
    return lambda record: _within(record, endpoints)


def _within(record: PurgeRecord, endpoints: Sequence[Endpoint]) -> bool:
    bounds = Bounds(endpoints, endpoints, Wildcards.ANY)
    return not any(map(bounds.refusal, record.selectors))


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for, as understood. ``warnings``: where more is purged than that."""

    asked: NativePurge
    selectors: tuple[Selector, ...]
    warnings: tuple[str, ...]

    def told(self, request_id: str | None) -> wire.Accepted:
        """As the API tells it; without an id it was not done."""
        named = [wire.Named(selector.kind.value, selector.value) for selector in self.selectors]
        return wire.Accepted(request_id, self.asked.mode, named, self.warnings, dry_run=self.asked.dry_run)


class Submit:
    """``POST /v1/purges``."""

    def __init__(self, journal: Journal, endpoints: Sequence[Endpoint], wildcards: Wildcards, metrics: HttpMetrics) -> None:
        self._journal = journal
        self._endpoints = tuple(endpoints)
        self._wildcards = wildcards
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:
        """201 once all of it is durable; 200 for a dry run."""
        if not visitor.key.may_purge():
            raise Refused(Fault.NOT_PERMITTED)
        Query(scope, ())
        again = idempotency_key(scope)
        asked = _decoded(await read_body(receive, PURGE_BYTES_MAX, Fault.PURGE_TOO_LARGE))
        plan = self.plan(asked, visitor)
        if asked.dry_run:
            return Reply(200, msgspec.json.encode(plan.told(None)))
        request_id, repeated = await self.accept(plan, visitor, client_address(scope), again)
        location: Header = (b"location", f"{PURGE_PREFIX}{request_id}".encode())
        return Reply(201, msgspec.json.encode(plan.told(request_id)), (*JSON, location, *([_REPEATED] if repeated else [])))

    def plan(self, asked: NativePurge, visitor: Visitor) -> Plan:
        """What would be done; does nothing. Raises :class:`Refused`, with all that is wrong."""
        if not visitor.key.may_purge():
            raise Refused(Fault.NOT_PERMITTED)
        understood = self._understood(asked, visitor)
        warnings = (*understood.warnings, *self._journal.warnings(understood.selectors, asked.mode == "soft"))
        return Plan(asked, understood.selectors, warnings)

    async def accept(self, plan: Plan, visitor: Visitor, address: str, again: str = "") -> tuple[str, bool]:
        """The id, once all of it is durable, and whether it had been accepted before under ``again``. Raises :class:`Refused`."""
        asked = plan.asked
        return await self._accept(Submission(plan.selectors, visitor.key.id, asked.mode == "soft", address, asked.note, again, _fingerprint(asked)))

    def _understood(self, asked: NativePurge, visitor: Visitor) -> Understood:
        lists = Asked(asked.urls, asked.prefixes, asked.tags, asked.hosts, asked.assets, asked.everything)
        understood = understand(lists, Bounds(self._endpoints, visitor.endpoints, self._wildcards))
        wrong = understood.wrong
        if not wrong:
            return understood
        fault = Fault.SELECTOR_INVALID if any(each.allowed for each in wrong) else Fault.SELECTOR_FORBIDDEN
        errors = [wire.FieldError(each.where, each.why) for each in wrong[:ERRORS_MAX]]
        raise Refused(fault, wrong[0].why if len(wrong) == 1 else f"{len(wrong)} selectors are refused", errors=errors)

    async def _accept(self, submission: Submission) -> tuple[str, bool]:
        began_s = time.perf_counter()
        try:
            request_id, repeated = await self._journal.submit(submission)
        except IdempotencyConflict:
            raise Refused(Fault.IDEMPOTENCY_CONFLICT) from None
        except LogUnavailable as error:
            _log.debug("purge refused: the log is unavailable", reason=str(error))
            raise Refused(Fault.LOG_UNAVAILABLE, "", retry_after(LOG_RETRY_S)) from None
        self._metrics.accept_duration_s.observe(time.perf_counter() - began_s)
        self._metrics.purges_accepted += not repeated
        return request_id, repeated


class Detail:
    """``GET /v1/purges/{id}``, at once or when it is complete."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200, pending or not; 404 for no purge that this key may see."""
        wait_s = Query(scope, ("wait",)).wait_s()
        found = await find(self._journal, scope["path"][len(PURGE_PREFIX) :], visitor)
        if wait_s and isinstance(found, PurgeRecord):
            await self._journal.progress.wait(found.last, wait_s)
        return Reply(200, msgspec.json.encode(self._journal.detail(found)))


class List:
    """``GET /v1/purges``."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200: newest first."""
        query = Query(scope, LIST)
        state = cast("wire.State | None", query.one_of("state", "pending", "completed"))
        wanted = Wanted(state, query.text("tag"), query.url(), query.text("key"), query.since_ms())
        try:
            page = await self._journal.page(wanted, sees(visitor), query.limit(), query.text("cursor"))
        except InvalidCursor:
            raise Refused(Fault.INVALID_PARAMETER, "the cursor is none that this list was answered with") from None
        except (StatusUnknown, LogUnavailable) as error:
            raise unknown(error) from None
        return Reply(200, msgspec.json.encode(page))


async def find(journal: Journal, request_id: str, visitor: Visitor) -> PurgeRecord | int:
    """The purge, as :meth:`agezero.journal.Journal.find` has it. Raises :class:`Refused`."""
    try:
        found = await journal.find(request_id, sees(visitor))
    except (StatusUnknown, LogUnavailable) as error:
        raise unknown(error) from None
    if found is None:
        raise Refused(Fault.NO_SUCH_PURGE)
    return found


def unknown(error: Exception) -> Refused:
    """The status is not known for the moment."""
    return Refused(Fault.STATUS_UNKNOWN, str(error), retry_after(STATUS_RETRY_S))


def _decoded(body: bytes) -> NativePurge:
    try:
        return _decode(body)
    except msgspec.ValidationError as error:
        raise Refused(Fault.INVALID_BODY, f"the body is no purge: {error}") from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(Fault.INVALID_BODY, f"the body is not JSON: {error}") from None


def _fingerprint(asked: NativePurge) -> str:
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()
