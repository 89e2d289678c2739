"""One agent as the service has it: the real follower over the real log in SQLite, a ledger, and the driver of one cache; only HTTP is left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path

from agezero.agent import Agent
from agezero.control import Control
from agezero.core.purge import RequestIds
from agezero.core.selector import Selector
from agezero.database import open_database, prepare, service_secret
from agezero.edges.kinds import EdgeState
from agezero.log.sqlite import SqliteLog
from agezero.ports import EdgeDriver, Submission
from agezero.registry import SqliteRegistry
from bench.harness import NotMeasured

LEASE_S, MARGIN_S = 60, 1
"""So long that a busy machine can't fence the edge while it's measured."""
_DEADLINE_S = 120


class Followed:
    """A log that an agent follows."""

    def __init__(self, purge_log: SqliteLog, control: Control) -> None:
        self._log = purge_log
        self._control = control

    async def purge(self, selectors: Sequence[Selector]) -> float:
        """Seconds from the moment when all of them are durable in the log until all are complete. Raises :class:`NotMeasured`."""
        accepted = await self._log.append_many(Submission(tuple(selectors), "bench"))
        began_s = time.perf_counter()
        await self._control.progress.wait(accepted.last, _DEADLINE_S)
        ended_s = time.perf_counter()
        if self._control.ledger.completed < accepted.last:
            raise NotMeasured(f"the agent came to {self._control.ledger.completed} of {accepted.last} in {_DEADLINE_S} s")
        return ended_s - began_s


@asynccontextmanager
async def followed(folder: Path, driver: EdgeDriver, state: EdgeState) -> AsyncIterator[Followed]:
    """The edge has joined and has its first lease."""
    with ExitStack() as files:
        files.enter_context(prepare(folder))
        log_file, registry_file = (files.enter_context(closing(open_database(folder))) for _ in range(2))
        purge_log = SqliteLog(log_file)
        control = Control(purge_log, SqliteRegistry(registry_file), RequestIds(service_secret(registry_file)), LEASE_S, MARGIN_S)
        purge_log.start()
        agent = Agent("bench", driver, purge_log, control, state)
        running = [asyncio.create_task(agent.run()), asyncio.create_task(control.run())]
        try:
            async with asyncio.timeout(_DEADLINE_S):
                await agent.serving.wait()
            yield Followed(purge_log, control)
        finally:
            for task in running:
                task.cancel()
            await asyncio.wait(running)
            await driver.aclose()
            await purge_log.stop()
