"""The paths of the native API."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from starlette.routing import Route

from agezero.audit import Audit
from agezero.config import Config
from agezero.fronts import Fronts
from agezero.http.attempts import Attempts
from agezero.http.faults import problem
from agezero.http.gate import Gate
from agezero.http.imagekit import Call
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.native.audit import AUDIT_PATH, ReadAudit
from agezero.http.native.events import EVENTS_PATH, AllEvents, PurgeEvents
from agezero.http.native.evidence import EVIDENCE_SUFFIX, ReadEvidence
from agezero.http.native.purges import EVENTS_SUFFIX, PURGE_PREFIX, PURGES_PATH, Detail, List, Submit
from agezero.http.native.streams import Stream
from agezero.http.pages import ByMethod
from agezero.http.traced import traced
from agezero.journal import Journal
from agezero.keys import KeyRing
from agezero.webhooks.service import Webhooks


@dataclass(frozen=True, slots=True)
class Native:
    """What the native API is made of."""

    journal: Journal
    audit: Audit
    webhooks: Webhooks
    fronts: Fronts = field(default_factory=lambda: Fronts({}))


def native_routes(  # noqa: PLR0913, PLR0917 (the parts)
    config: Config, native: Native, keys: KeyRing, metrics: HttpMetrics, purge_limit: RateLimit, status_limit: RateLimit, attempts: Attempts
) -> Iterator[Route]:
    """All of them. Reading counts as reading a status does."""
    journal, reads = native.journal, Gate(keys, status_limit, attempts)
    submit = Submit(journal, config.served_endpoints, config.wildcards, metrics)
    purge = Call("native-purge", traced("native-purge", submit), Gate(keys, purge_limit, attempts), purge_limit, metrics, problem)
    listing = Call("purges", List(journal), reads, status_limit, metrics, problem)
    detail = Call("purge-detail", Detail(journal), reads, status_limit, metrics, problem)
    events = Stream("events", AllEvents(journal), reads, status_limit, metrics)
    purge_events = Stream("purge-events", PurgeEvents(journal), reads, status_limit, metrics)
    audit = Stream("audit", ReadAudit(native.audit), reads, status_limit, metrics)
    yield Route(PURGES_PATH, ByMethod(status_limit, metrics, {"GET": listing, "POST": purge}))
    yield Route(PURGE_PREFIX + "{id}", ByMethod(status_limit, metrics, {"GET": detail}))
    yield Route(PURGE_PREFIX + "{id}" + EVENTS_SUFFIX, ByMethod(status_limit, metrics, {"GET": purge_events}))
    evidence = Call("purge-evidence", ReadEvidence(journal, native.fronts), reads, status_limit, metrics, problem)
    yield Route(PURGE_PREFIX + "{id}" + EVIDENCE_SUFFIX, ByMethod(status_limit, metrics, {"GET": evidence}))
    yield Route(EVENTS_PATH, ByMethod(status_limit, metrics, {"GET": events}))
    yield Route(AUDIT_PATH, ByMethod(status_limit, metrics, {"GET": audit}))
