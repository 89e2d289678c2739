"""ImageKit's two calls: submit a purge, read its status (the contract, "Calls").

Both run through :class:`Call`: recognise the key, count the request, answer. The answer is a plain function of the request; the
contract's headers and the counting stand here once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from agezero.core.canonical import InvalidUrl
from agezero.core.endpoint import Endpoint
from agezero.core.selector import Selector, WildcardMisplaced, parse_url
from agezero.core.wildcards import Wildcards, broken_rule
from agezero.http.body import purge_url, read_body
from agezero.http.faults import Fault, Refused, retry_after
from agezero.http.gate import KEY_ID, Gate, Visitor, client_address
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.native.parameters import idempotency_key
from agezero.http.reply import Reply, new_request_id, send_reply
from agezero.http.service import Purges
from agezero.ports import BoardUnavailable, IdempotencyConflict, LogUnavailable, StatusUnknown

PURGE_PATH = "/v1/files/purge"
STATUS_PREFIX = PURGE_PATH + "/"
LOG_RETRY_S = 5
"""What ``Retry-After`` says while the log takes no entries."""
STATUS_RETRY_S = 1
"""What ``Retry-After`` says while statuses are unknown, as they are for a moment after a start."""

Handler = Callable[[Scope, Receive, Visitor], Awaitable[Reply]]

_log = structlog.get_logger(__name__)
_TOO_OFTEN = Refused(Fault.RATE_LIMITED, "", retry_after(1))


class Submitted(msgspec.Struct, frozen=True, rename="camel"):
    """The answer to a purge. Clients fail on any further member."""

    request_id: str


_PENDING = Reply(200, b'{"status":"Pending"}')
_COMPLETED = Reply(200, b'{"status":"Completed"}')
_UNKNOWN = Fault.UNKNOWN_REQUEST.reply()
_STATUSES: dict[bool | None, Reply] = {True: _COMPLETED, False: _PENDING, None: _UNKNOWN}


def _contract(refused: Refused) -> Reply:
    return refused.reply


class Call:
    """One call as an ASGI application. ``tell``: how it says that it refuses."""

    def __init__(  # noqa: PLR0913, PLR0917 (its parts)
        self, name: str, handler: Handler, gate: Gate, limit: RateLimit, metrics: HttpMetrics, tell: Callable[[Refused], Reply] = _contract
    ) -> None:
        self._name = name
        self._tell = tell
        self._handler = handler
        self._gate = gate
        self._limit = limit
        self._requests = metrics.requests
        self._rate_limited = metrics.rate_limited
        metrics.expect(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing but a broken connection gets out of here."""
        now_s = time.time()
        rate, request_id = self._limit.idle, None
        try:
            visitor = self._gate.recognise(scope["headers"], now_s, client_address(scope))
            scope[KEY_ID] = visitor.key.id
            allowed = self._limit.take(visitor.window)
            rate = self._limit.headers(visitor.window, now_s)
            reply = await self._handler(scope, receive, visitor) if allowed else self._too_often()
        except Refused as refused:
            reply = self._tell(refused)
        except BoardUnavailable as error:
            reply = self._tell(Refused(Fault.RECORDS_UNAVAILABLE, str(error), retry_after(LOG_RETRY_S)))
        except Exception:
            request_id = new_request_id()
            _log.exception("request failed", call=self._name, request_id=request_id.decode())
            reply = self._tell(Refused(Fault.INTERNAL))
        self._requests[self._name, reply.status] += 1
        await send_reply(send, reply, rate, request_id)

    def _too_often(self) -> Reply:
        self._rate_limited[self._name] += 1
        return self._tell(_TOO_OFTEN)


class Submit:
    """``POST /v1/files/purge``."""

    def __init__(self, purges: Purges, endpoints: Sequence[Endpoint], wildcards: Wildcards, metrics: HttpMetrics) -> None:
        self._purges = purges
        self._endpoints = tuple(endpoints)
        self._wildcards = wildcards
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:
        """201 once the purge is durable."""
        if not visitor.key.may_purge():
            raise Refused(Fault.NOT_PERMITTED)
        selector = self._selector(purge_url(scope["headers"], await read_body(receive)), visitor)
        began_s = time.perf_counter()
        try:
            request_id = await self._purges.submit(selector, visitor.key.id, address=client_address(scope), again=idempotency_key(scope))
        except IdempotencyConflict:
            raise Refused(Fault.IDEMPOTENCY_CONFLICT) from None
        except LogUnavailable as error:
            _log.debug("purge refused: the log is unavailable", reason=str(error))
            raise Refused(Fault.LOG_UNAVAILABLE, "", retry_after(LOG_RETRY_S)) from None
        self._metrics.accept_duration_s.observe(time.perf_counter() - began_s)
        self._metrics.purges_accepted += 1
        return Reply(201, b'{"requestId":"%b"}' % request_id.encode())

    def _selector(self, url: str, visitor: Visitor) -> Selector:
        try:
            selector = parse_url(url)
        except WildcardMisplaced as error:
            raise Refused(Fault.NOT_PURGEABLE, str(error)) from None
        except InvalidUrl as error:
            raise Refused(Fault.INVALID_URL, str(error)) from None
        for endpoints, whose in ((self._endpoints, "this service"), (visitor.endpoints, "this key")):
            if endpoints is not None and not any(endpoint.covers(selector) for endpoint in endpoints):
                listed = ", ".join(map(str, endpoints)) or "none"
                raise Refused(Fault.NOT_PURGEABLE, f"the {selector.kind} {selector.value!r} is not under an endpoint of {whose} ({listed})")
        if rule := broken_rule(selector, self._wildcards):
            raise Refused(Fault.NOT_PURGEABLE, rule)
        return selector


class Status:
    """``GET /v1/files/purge/{requestId}``: one comparison in memory, where one node serves."""

    def __init__(self, purges: Purges) -> None:
        self._status = purges.status

    async def __call__(self, scope: Scope, receive: Receive, visitor: Visitor) -> Reply:  # noqa: ARG002 (a Handler)
        """200; 400 for an id that is not this service's; 503 while statuses are unknown."""
        try:
            return _STATUSES[await self._status(scope["path"][len(STATUS_PREFIX) :])]
        except StatusUnknown as error:
            raise Refused(Fault.STATUS_UNKNOWN, str(error), retry_after(STATUS_RETRY_S)) from None
