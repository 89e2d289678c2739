"""Request bodies: read within limits, as JSON or as a form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive

from agezero.http.faults import BODY_BYTES_MAX, Fault, Refused
from agezero.http.reply import Header

BODY_TIMEOUT_S = 30
"""A client that sends its body more slowly than this is let go."""

_FORM = b"application/x-www-form-urlencoded"
_FORM_FIELDS_MAX = 16
_TYPE_NAMES = {list: "an array", dict: "an object", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}


class PurgeRequest(msgspec.Struct, frozen=True):
    """What to purge."""

    url: Annotated[
        str,
        msgspec.Meta(
            description="An absolute http or https URL under an endpoint of this service. A * at its end purges every URL that begins so.",
            examples=["https://cdn.example.com/photos/cat.jpg", "https://cdn.example.com/photos/cat.jpg*"],
        ),
    ]


_decode = msgspec.json.Decoder(PurgeRequest).decode


async def read_body(receive: Receive, bytes_max: int = BODY_BYTES_MAX, too_large: Fault = Fault.BODY_TOO_LARGE) -> bytes:
    """The whole body. Raises :class:`Refused` as soon as it is too long, and when it does not come or ends early."""
    chunks: list[bytes] = []
    size, more = 0, True
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(Fault.INVALID_BODY, "the connection ended before the body did")
                chunks.append(message.get("body", b""))
                size += len(chunks[-1])
                if size > bytes_max:
                    raise Refused(too_large)
                more = message.get("more_body", False)
    except TimeoutError:
        raise Refused(Fault.INVALID_BODY, f"the body did not arrive within {BODY_TIMEOUT_S} s") from None
    return b"".join(chunks)


def purge_url(headers: Iterable[Header], body: bytes) -> str:
    """The ``url`` in a request body. Raises :class:`Refused`. An object is JSON even where it is called a form, as `curl -d` does."""
    if not body.lstrip().startswith(b"{") and any(name == b"content-type" and value.lower().startswith(_FORM) for name, value in headers):
        return _form_url(body)
    if not body.strip():
        raise Refused(Fault.NO_URL, "the request has no body")
    try:
        return _decode(body).url
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise _what_is_wrong(body) from None


def _what_is_wrong(body: bytes) -> Refused:
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Refused(Fault.INVALID_BODY, f"the body is not JSON: {error}")
    except RecursionError:
        return Refused(Fault.INVALID_BODY, "the body is nested too deeply")
    if not isinstance(found, dict):
        return Refused(Fault.NO_URL, f"the body is {_TYPE_NAMES.get(type(found), 'a string')}; expected an object")
    if "url" not in found:
        return Refused(Fault.NO_URL, "the object in the body has no member url")
    return Refused(Fault.INVALID_URL, f"url is {_TYPE_NAMES.get(type(found['url']), 'of a wrong type')}; expected a string")


def _form_url(body: bytes) -> str:
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_FORM_FIELDS_MAX)
    except UnicodeDecodeError:
        raise Refused(Fault.INVALID_BODY, "the form is not percent-encoded UTF-8") from None
    except ValueError:
        raise Refused(Fault.INVALID_BODY, f"the form has more than {_FORM_FIELDS_MAX} fields; expected url alone") from None
    values = fields.pop("url", None)
    if values is None:
        raise Refused(Fault.NO_URL, "the form has no field url")
    if len(values) > 1:
        raise Refused(Fault.INVALID_URL, "the form has several fields url; expected one")
    if fields:  # most likely the rest of the URL: without it another URL would be purged
        raise Refused(Fault.INVALID_URL, f"the form has {', '.join(map(repr, fields))} beside url; percent-encode each & in the URL as %26")
    return values[0]
