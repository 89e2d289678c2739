"""Where traces go, if anywhere: nothing, until :mod:`agezero.otlp` has set :data:`tracer`. What is off costs a look at one variable.

A purge that is traced has its spans in one trace: ``accept`` (the request), and under it ``log append``, ``apply`` and ``confirm`` of each edge,
and ``complete``. The trace's context travels with the purge's last entry in the log, as ``traceparent`` (W3C Trace Context §3.2), so an agent need
not be in the same process, nor alive at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Protocol

from agezero.core.purge import Purge

PARENT: ContextVar[str] = ContextVar("traceparent", default="")
"""Of the request that is being answered; empty where it is not traced."""


class Accepting(Protocol):
    """The span of a request under way."""

    def answered(self, status: int) -> None:
        """The HTTP status that it is answered with."""
        ...


class Tracer(Protocol):
    """Makes the spans. Nothing of it may fail or wait."""

    def accepting(self, call: str, path: str, headers: Iterable[tuple[bytes, bytes]]) -> AbstractContextManager[Accepting]:
        """A request that purges; it goes on with the trace in its headers, if there is one."""
        ...

    def appending(self) -> AbstractContextManager[None]:
        """The entry is written."""
        ...

    def durable(self, seq: int, purge_id: str) -> None:
        """It is; ``complete`` begins here."""
        ...

    def applying(self, edge: str, purges: Sequence[Purge]) -> AbstractContextManager[None]:
        """The edge's cache is asked; what the block raises is what went wrong."""
        ...

    def confirming(self, edge: str, watermark: int) -> AbstractContextManager[None]:
        """The edge's agent reports."""
        ...

    def complete(self, seq: int) -> None:
        """Everything up to here is."""
        ...


tracer: Tracer | None = None
_NOTHING: AbstractContextManager[None] = nullcontext()


def appending() -> AbstractContextManager[None]:
    """See :class:`Tracer`."""
    return _NOTHING if tracer is None else tracer.appending()


def durable(seq: int, purge_id: str) -> None:
    """See :class:`Tracer`."""
    if tracer is not None:
        tracer.durable(seq, purge_id)


def applying(edge: str, purges: Sequence[Purge]) -> AbstractContextManager[None]:
    """See :class:`Tracer`."""
    return _NOTHING if tracer is None else tracer.applying(edge, purges)


def confirming(edge: str, watermark: int) -> AbstractContextManager[None]:
    """See :class:`Tracer`."""
    return _NOTHING if tracer is None else tracer.confirming(edge, watermark)


def complete(seq: int) -> None:
    """See :class:`Tracer`."""
    if tracer is not None:
        tracer.complete(seq)
