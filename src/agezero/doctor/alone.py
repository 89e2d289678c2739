"""The doctor while no service runs: it runs as much of one as a single edge needs, without an API.

Log, ledger, lease and agent are those of ``agezero up``, so what is promised holds here too: the edge gets no lease before it has applied every purge
up to the log's head, one whose past is in doubt purges everything first, and one that was killed with the doctor loses its lease by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from agezero.agent import Agent
from agezero.background import background
from agezero.config import Config
from agezero.config.edges import ExternalEdge
from agezero.control import Control
from agezero.core.purge import RequestIds
from agezero.core.selector import parse_url
from agezero.database import check, in_words, open_database, service_secret
from agezero.errors import UserError
from agezero.fleet import FleetEdge, open_edge, running_edges
from agezero.lineage import BROKEN, Lineage, Standing
from agezero.log.sqlite import SqliteLog, check_here
from agezero.ports import DriverFailed, LogUnavailable
from agezero.registry import SqliteRegistry

KEY_ID = "doctor"
"""Whose purges they are, in the log."""
APPLY_S = 10.0
GRACE_S = 10.0
"""Beside a lease and its margin, for which a start may have to wait."""
LOOK_S = 0.05
TROUBLE_S = 3.0
"""An agent tries again by itself; what it complains of for so long is not going to end."""


@contextlib.asynccontextmanager
async def alone(config: Config, options: ExternalEdge) -> AsyncIterator[Alone]:
    """The data directory is prepared. Raises :class:`UserError`."""
    check(config.data_dir)
    with contextlib.ExitStack() as files:
        log_at, lineage_at, registry_at = [files.enter_context(contextlib.closing(open_database(config.data_dir))) for _ in range(3)]
        with in_words(config.data_dir):
            check_here(log_at)
            purge_log = SqliteLog(log_at, config.log.retention_purges)
            edge = open_edge(config, options)
            files.callback(edge.state.close)
            _settle(Lineage(lineage_at), purge_log, edge)
            ids = RequestIds(service_secret(registry_at))
            control = Control(purge_log, SqliteRegistry(registry_at), ids, config.lease.lease_s, config.lease.margin_s)
        purge_log.start()
        async with background(control.run()), contextlib.AsyncExitStack() as agents:
            yield Alone(edge, purge_log, control, agents)
        await purge_log.stop()


def of_a_fleet(name: str) -> UserError:
    """Whoever lends it a lease beside its agent makes the fleet's ledger wrong."""
    return UserError(
        f"the edge {name} belongs to a fleet, in which its own agent alone may lend it a lease",
        "`agezero edges` says how it is; the doctor examines a cache before its first `agezero agent`, with settings that have no log.url",
    )


def _settle(lineage: Lineage, purge_log: SqliteLog, edge: FleetEdge) -> None:
    """As :func:`agezero.fleet.settle_lineage`, but without a new mark: the other edges are not here to get it, and only canaries are purged."""
    standings = {lineage.standing(mark) for mark in edge.marks}
    if Standing.NEWER in standings:
        raise UserError(f"the database is older than the edge {edge.name}: {BROKEN}", "start `agezero up` once, which makes good for it")
    if standings != {Standing.SAME}:
        edge.state.distrust(BROKEN)
    elif edge.state.load().epoch not in ("", purge_log.epoch):  # only a fleet's agent starts with a log that is not here
        raise of_a_fleet(edge.name)
    purge_log.continue_after(edge.state.watermark)


class Alone:
    """Implements :class:`agezero.doctor.patient.Hands`. The agent runs from ``serving`` on, within ``agents``."""

    def __init__(self, edge: FleetEdge, purge_log: SqliteLog, control: Control, agents: contextlib.AsyncExitStack) -> None:
        self._edge, self._log, self._control, self._agents = edge, purge_log, control, agents
        self._doubt = edge.state.doubt

    async def serving(self) -> str:
        """See Hands."""
        (agent,) = await self._agents.enter_async_context(running_edges([self._edge], self._log, self._control))
        try:
            async with asyncio.timeout(self._patience_s()):
                await self._until_serving(agent)
        except TimeoutError:
            raise DriverFailed(self._trouble() or "it got no lease in time") from None
        return f"all that it had stored is purged, because {self._doubt}" if self._doubt else ""

    async def purge(self, url: str) -> None:
        """See Hands."""
        try:
            seq = await self._log.append(parse_url(url), KEY_ID)
            async with asyncio.timeout(APPLY_S):
                while self._control.ledger.members[self._edge.name].watermark < seq:
                    await self._control.progress.change(APPLY_S)
        except LogUnavailable as error:
            raise DriverFailed(f"the purge log takes no entry: {error}\nhint: make room on the disk") from None
        except TimeoutError:
            raise DriverFailed(self._trouble() or f"the purge was not confirmed within {APPLY_S:g} s") from None

    async def fence(self) -> bool:
        """See Hands: the agent ends in good order, and takes the lease along."""
        await self._agents.aclose()
        return True

    async def _until_serving(self, agent: Agent) -> None:
        troubled_s = time.monotonic()
        while not agent.serving.is_set():
            now_s = time.monotonic()
            if not self._trouble() or not self._control.recovered.is_set():
                troubled_s = now_s
            elif now_s - troubled_s > TROUBLE_S:
                raise DriverFailed(self._trouble())
            await asyncio.sleep(LOOK_S)

    def _patience_s(self) -> float:
        """Others may have been killed, and hold leases yet."""
        now_s = time.monotonic()
        return max([member.until_s for member in self._control.ledger.members.values()] + [now_s]) - now_s + GRACE_S

    def _trouble(self) -> str:
        member = self._control.ledger.members.get(self._edge.name)
        return member.trouble if member else ""
