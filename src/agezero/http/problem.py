"""Errors of the native API as problem details (RFC 9457): the same table of faults in another shape."""

from __future__ import annotations

import msgspec

from agezero.http.faults import Fault
from agezero.http.reply import Header, Reply

MEDIA_TYPE = "application/problem+json"
_HEADERS: tuple[Header, ...] = ((b"content-type", MEDIA_TYPE.encode()), (b"cache-control", b"no-store"))


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every error of the native API. ``help`` says what to do."""

    type: str
    title: str
    status: int
    help: str
    detail: str = ""


def problem(fault: Fault, detail: str = "", *headers: Header) -> Reply:
    """The response; ``detail`` says what was wrong with this request."""
    return Reply(fault.status, msgspec.json.encode(details(fault, detail)), _HEADERS + headers)


def details(fault: Fault, detail: str = "") -> ProblemDetails:
    """Its ``type`` is a URN: a name to compare, not an address."""
    return ProblemDetails(f"urn:agezero:problem:{fault.name.lower().replace('_', '-')}", fault.message, fault.status, fault.advice, detail)
