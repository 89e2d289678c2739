"""Waiting for a fact, never for a time: poll with a deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.01


def wait_for(probe: Callable[[], T | None], what: str, deadline_s: float = 30) -> T:
    """The first truthy answer of ``probe``. Raises :class:`TimeoutError`, naming ``what``, after ``deadline_s``."""
    end_s = time.monotonic() + deadline_s
    while True:
        if answer := probe():
            return answer
        if time.monotonic() > end_s:
            raise TimeoutError(f"not within {deadline_s} s: {what}")
        time.sleep(POLL_S)


async def until(probe: Callable[[], object], what: str, deadline_s: float = 30) -> None:
    """Like :func:`wait_for`, within an event loop."""
    end_s = time.monotonic() + deadline_s
    while not probe():
        if time.monotonic() > end_s:
            raise TimeoutError(f"not within {deadline_s} s: {what}")
        await asyncio.sleep(POLL_S)
