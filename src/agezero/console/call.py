"""One page as an ASGI application: who is it, may it, is the form one of ours; then the page.

All that guards a page stands here once: the session, the permission, the rate limit of the API, and for whatever changes something, the form's token
and where the browser says that the request comes from (Fetch Metadata). A page's own module only says what is on it.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

import structlog
from starlette.types import Receive, Scope, Send

from agezero.console.gate import SessionGate
from agezero.console.render import HTML, Render
from agezero.console.sessions import Session
from agezero.http.body import read_body
from agezero.http.faults import DOCS, PURGE_BYTES_MAX, Fault, Refused, retry_after
from agezero.http.gate import Visitor, client_address
from agezero.http.limiter import RateLimit
from agezero.http.metrics import HttpMetrics
from agezero.http.native.parameters import Query, header
from agezero.http.reply import Header, Reply, new_request_id, send_reply
from agezero.wire import FieldError

SIGN_IN = "/console/sign-in"
FIELDS_MAX = 64
FORM_FIELD = "form"
"""In which a form has its token."""

_log = structlog.get_logger(__name__)


class Needs(Enum):
    """What a page asks of a key: may it (a test), and what it is told if it may not."""

    READ = (lambda _: True, Fault.NOT_PERMITTED)
    PURGE = (lambda visitor: visitor.key.may_purge(), Fault.NOT_PERMITTED)
    ADMIN = (lambda visitor: visitor.administers, Fault.NOT_ADMIN)

    def __init__(self, allows: Callable[[Visitor], bool], fault: Fault) -> None:
        self.allows = allows
        self.fault = fault


class NotOurForm(Exception):
    """The form was not made for this session, or another site sent it."""


class Trouble(NamedTuple):
    """What went wrong, for people. ``errors``: one for each selector that is wrong."""

    status: int
    title: str
    detail: str
    advice: str
    errors: Sequence[FieldError] = ()


def trouble(error: Refused | NotOurForm) -> Trouble:
    """In words."""
    if isinstance(error, NotOurForm):
        return Trouble(403, "This form is out of date.", "", "Load the page anew, and send it again. Nothing was done.")
    fault = error.fault
    detail = error.detail[:1].upper() + error.detail[1:]
    return Trouble(fault.status, fault.message, detail, fault.advice.removesuffix(DOCS).rstrip(), error.errors)


@dataclass(frozen=True, slots=True)
class Request:
    """One request to a page. ``fields``: of the form, where there was one; a field that stands there more than once has all of its values."""

    scope: Scope
    visitor: Visitor
    session: Session
    fields: Mapping[str, list[str]]
    render: Render

    def field(self, name: str) -> str:
        """The form's field, empty without one."""
        return self.fields.get(name, [""])[0]

    def query(self, *known: str) -> Query:
        """The parameters; an empty field of a form that filters is none."""
        kept = [pair for pair in self.scope["query_string"].split(b"&") if pair and not pair.endswith(b"=")]
        return Query({**self.scope, "query_string": b"&".join(kept)}, known)

    def segment(self, name: str) -> str:
        """A part of the path."""
        return str(self.scope["path_params"][name])

    @property
    def address(self) -> str:
        """Who is at the other end."""
        return client_address(self.scope)

    @property
    def partial(self) -> bool:
        """Is a part of a page asked for?"""
        return header(self.scope, b"hx-request") == "true"

    def page(self, template: str, status: int = 200, **values: object) -> Reply:
        """The page, or the part of one."""
        return Reply(status, self.html(template, **values).encode(), HTML)

    def html(self, template: str, **values: object) -> str:
        """As text."""
        return self.render(template, {"visitor": self.visitor, "session": self.session, "path": self.scope["path"], **values})


Handler = Callable[[Request], Awaitable[Reply]]


def see_other(path: str, *headers: Header) -> Reply:
    """Go and look there."""
    return Reply(303, b"", ((b"location", path.encode()), (b"cache-control", b"no-store"), *headers))


class Page:
    """See the module."""

    def __init__(  # noqa: PLR0913, PLR0917 (its parts)
        self,
        needs: Needs,
        handler: Handler,
        gate: SessionGate,
        limit: RateLimit,
        metrics: HttpMetrics,
        render: Render,
    ) -> None:
        self._needs = needs
        self._handler = handler
        self._gate = gate
        self._limit = limit
        self._requests = metrics.requests
        self._render = render

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; nothing but a broken connection gets out of here."""
        request_id, now_s, rate = None, time.time(), self._limit.idle
        try:
            session, visitor = self._gate.signed_in(scope["headers"], now_s)
        except Refused:
            reply = to_sign_in(scope)
        else:
            allowed = self._limit.take(visitor.window)
            rate = self._limit.headers(visitor.window, now_s)
            request = Request(scope, visitor, session, {}, self._render)
            try:
                reply = await self._answer(request, receive, allowed)
            except (Refused, NotOurForm) as error:
                reply = error_page(request, error)
            except Exception:
                request_id = new_request_id()
                _log.exception("request failed", call="console", request_id=request_id.decode())
                reply = error_page(request, Refused(Fault.INTERNAL, f"its x-ik-requestid is {request_id.decode()}"))
        self._requests["console", reply.status] += 1
        await send_reply(send, reply, rate, request_id)

    async def _answer(self, request: Request, receive: Receive, allowed: bool) -> Reply:
        if not allowed:
            raise Refused(Fault.RATE_LIMITED, "", retry_after(1))
        if not self._needs.allows(request.visitor):
            raise Refused(self._needs.fault)
        if request.scope["method"] in ("GET", "HEAD"):
            return await self._handler(request)
        fields = await read_form(request.scope, receive)
        check_form(request.scope, fields, request.session.form)
        return await self._handler(Request(request.scope, request.visitor, request.session, fields, self._render))


async def read_form(scope: Scope, receive: Receive) -> dict[str, list[str]]:
    """The fields. Raises :class:`Refused`."""
    body = await read_body(receive, PURGE_BYTES_MAX, Fault.PURGE_TOO_LARGE)
    if not (header(scope, b"content-type") or "").startswith("application/x-www-form-urlencoded"):
        raise Refused(Fault.INVALID_BODY, "the body is not a form")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise Refused(Fault.INVALID_BODY, "the body is not a form in UTF-8, or has too many fields") from None
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def check_form(scope: Scope, fields: Mapping[str, list[str]], expected: str) -> None:
    """Raises :class:`NotOurForm` unless the form has the token, and the browser, if it says so, was on one of our pages."""
    found = fields.get(FORM_FIELD, [""])[0]
    came_from = header(scope, b"sec-fetch-site") or "same-origin"
    if came_from != "same-origin" or not hmac.compare_digest(found.encode(errors="replace"), expected.encode()):
        raise NotOurForm


def error_page(request: Request, error: Refused | NotOurForm) -> Reply:
    """The error as a page, or as a part of one."""
    told = trouble(error)
    reply = request.page("_trouble.html" if request.partial else "trouble.html", told.status, trouble=told)
    more = error.headers if isinstance(error, Refused) else ()
    return Reply(reply.status, reply.body, (*reply.headers, *more))


def to_sign_in(scope: Scope) -> Reply:
    """To the form. Who comes by a link on another site has a cookie that was not sent along: the browser sends it if it is told to come again."""
    path = scope["path"]
    if header(scope, b"hx-request") == "true":
        return Reply(401, b"", ((b"hx-redirect", SIGN_IN.encode()), (b"cache-control", b"no-store")))
    if scope["method"] != "GET":
        return see_other(SIGN_IN)
    query = scope["query_string"].decode("latin-1")
    here = path + (f"?{query}" if query else "")
    if header(scope, b"sec-fetch-site") == "cross-site":
        return Reply(200, b"<!doctype html><title>AgeZero</title>", (*HTML, (b"refresh", b"0")))
    return see_other(SIGN_IN + ("" if here == "/console" else f"?next={quote(here, safe='/')}"))
