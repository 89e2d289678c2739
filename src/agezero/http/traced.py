"""A handler that purges, with a span round it: see :mod:`agezero.tracing`."""

from __future__ import annotations

from starlette.types import Receive, Scope

from agezero import tracing
from agezero.http.faults import Refused
from agezero.http.gate import Visitor
from agezero.http.imagekit import Handler
from agezero.http.reply import Reply


def traced(call: str, handler: Handler) -> Handler:
    """``handler``, traced; itself where traces are off."""
    tracer = tracing.tracer
    if tracer is None:
        return handler

    async def handle(scope: Scope, receive: Receive, visitor: Visitor) -> Reply:
        with tracer.accepting(call, scope["path"], scope["headers"]) as accepting:
            try:
                reply = await handler(scope, receive, visitor)
            except Refused as refused:
                accepting.answered(refused.fault.status)
                raise
            except Exception:
                accepting.answered(500)
                raise
            accepting.answered(reply.status)
            return reply

    return handle
