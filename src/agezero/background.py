"""Work that runs as long as a block does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine


@contextlib.asynccontextmanager
async def background(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run ``work`` while the block lasts; if any of it fails, the block does too."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@contextlib.asynccontextmanager
async def threads_ended() -> AsyncIterator[None]:
    """On leaving, wait for what ``asyncio.to_thread`` began.

    A task that is cancelled leaves its thread behind, and SQLite that is closed beneath a thread kills the process.
    """
    try:
        yield
    finally:
        await asyncio.get_running_loop().shutdown_default_executor()
