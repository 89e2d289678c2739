"""Logging: structlog to stderr, for people on a terminal and as JSON lines otherwise, or as is asked for. No key is ever in it."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from agezero.terminal import harmless

Form = Literal["auto", "json", "text"]
"""auto: text on a terminal, else JSON."""

_KEY = re.compile(r"private_[A-Za-z0-9_-]+|whsec_[A-Za-z0-9+/=]+|(?i:basic)\s+[A-Za-z0-9+/=_-]{8,}")
_REPLACEMENT = "[private key]"


def configure(least: int = logging.INFO, form: Form = "auto") -> None:
    """Set logging up for this process, from the level ``least`` up. Messages of libraries take the same way from WARNING up."""
    terminal = sys.stderr.isatty()
    text = terminal if form == "auto" else form == "text"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # A traceback becomes text before keys are taken out, and has no variables in it: they may hold one.
    for_people = structlog.dev.ConsoleRenderer(colors=terminal and "NO_COLOR" not in os.environ, exception_formatter=structlog.dev.plain_traceback)
    last: list[Processor] = [
        structlog.processors.format_exc_info,
        redact,
        *((_disarm, for_people) if text else (structlog.processors.JSONRenderer(),)),
    ]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_drop_record, *last]))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)


def redact(logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ARG001 (a structlog processor)
    """Take private keys out of every text, also out of the one that AGEZERO_PRIVATE_KEY gave."""
    given = os.environ.get("AGEZERO_PRIVATE_KEY") or None
    return {name: _redacted(value, given) for name, value in event.items()}


def _disarm(logger: Any, method: str, event: EventDict) -> EventDict:  # noqa: ARG001 (a structlog processor)
    """A path that anybody asked for stands in the log of requests. What is within lists and the like is shown as Python writes it anyhow."""
    return {name: harmless(value) if isinstance(value, str) else value for name, value in event.items()}


class _Unfailing:
    """stderr, but a message that cannot be written is dropped: where it goes to a disk that is full, the service has to go on all the same."""

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            sys.stderr.flush()


def _redacted(text: Any, given: str | None) -> Any:
    if isinstance(text, dict):
        return {_redacted(name, given): _redacted(value, given) for name, value in text.items()}
    if isinstance(text, bytes):
        text = repr(text)
    if isinstance(text, list | tuple):
        return [_redacted(item, given) for item in text]
    if not isinstance(text, str):
        return text
    if given is not None:
        text = text.replace(given, _REPLACEMENT)
    return _KEY.sub(_REPLACEMENT, text)


def _drop_record(logger: Any, method: str, event: EventDict) -> EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, method, event)
