"""What the calls that administer the service have in common: admins only, bodies of one struct."""

from __future__ import annotations

from typing import TypeVar

import msgspec
from starlette.types import Receive, Scope

from agezero.http.body import read_body
from agezero.http.faults import Fault, Refused
from agezero.http.gate import Visitor
from agezero.http.imagekit import Handler
from agezero.http.reply import Reply

T = TypeVar("T")


def admin(handler: Handler) -> Handler:
    """``handler``, for admins only."""

    async def handle(scope: Scope, receive: Receive, visitor: Visitor) -> Reply:
        if not visitor.administers:
            raise Refused(Fault.NOT_ADMIN)
        return await handler(scope, receive, visitor)

    return handle


async def body_of(receive: Receive, kind: type[T]) -> T:
    """The JSON body as ``kind``. Raises :class:`Refused`."""
    body = await read_body(receive)
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Refused(Fault.INVALID_MEMBER, str(error).replace("`", "'")) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Refused(Fault.INVALID_BODY, f"the body is not JSON: {error}" if body.strip() else "the request has no body") from None


def segment(scope: Scope, name: str) -> str:
    """A part of the path."""
    return str(scope["path_params"][name])
