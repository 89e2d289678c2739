"""The edges of this process: each with its state, its driver and its agent. The embedded edge is one of them, with a process to supervise.

State first, for all; then what they say of each other and of the log is looked at (:mod:`agezero.lineage`); only then anything runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import structlog

from agezero.agent import Agent
from agezero.background import background
from agezero.config import Config
from agezero.config.edges import ExternalEdge
from agezero.core.epochs import EpochTable
from agezero.edges.kinds import EdgeState, OpenEdge, edge_folder, kind_of
from agezero.edges.nginx.driver import NginxDriver
from agezero.edges.nginx.process import EdgeProcess
from agezero.edges.nginx.settings import EdgeSettings
from agezero.edges.slots import SlotFile
from agezero.errors import UserError
from agezero.lineage import BROKEN, Lineage, MarkFile, Standing
from agezero.log.sqlite import SqliteLog
from agezero.ports import ControlSide, DriverFailed, EdgeDriver, NotJoined, PurgeLog, Superseded
from agezero.tls import follow

LEAVE_S = 1.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class FleetEdge:
    """An edge that is open. ``beside``: a second place that holds its mark. ``process``: the embedded edge's."""

    name: str
    driver: EdgeDriver
    state: EdgeState
    tier: int = 0
    lease_s: float | None = None
    beside: MarkFile | None = None
    process: EdgeProcess | None = None

    @property
    def marks(self) -> list[str]:
        """All that it holds."""
        return [self.state.lineage, *([self.beside.lineage] if self.beside else [])]

    def mark(self, mark: str) -> None:
        """Give it the mark of this start."""
        self.state.mark_lineage(mark)
        if self.beside:
            self.beside.mark_lineage(mark)


@contextlib.contextmanager
def open_edges(config: Config) -> Iterator[list[FleetEdge]]:
    """Open the state of all edges in the settings. Raises :class:`UserError`."""
    with contextlib.ExitStack() as states:
        edges: list[FleetEdge] = []
        if config.edge.origin:
            edges.append(_embedded(config))
            states.callback(edges[-1].state.close)
        for options in config.edges:
            edges.append(open_edge(config, options))
            states.callback(edges[-1].state.close)
        yield edges


def open_edge(config: Config, options: ExternalEdge) -> FleetEdge:
    """Open the state of one of ``[[edges]]``; close it after use. Raises :class:`UserError`."""
    folder = edge_folder(config.data_dir, options.name)
    with opening(folder):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        opened: OpenEdge = kind_of(options.driver).open(options, folder)
    return FleetEdge(options.name, opened.driver, opened.state, options.tier, options.lease_s)


def tables(edges: Sequence[FleetEdge]) -> dict[str, EpochTable]:
    """The purge tables, of those edges that have one."""
    return {edge.name: edge.state.table for edge in edges if isinstance(edge.state, SlotFile)}


def settle_lineage(lineage: Lineage, purge_log: SqliteLog, edges: Sequence[FleetEdge]) -> None:
    """What was restored from a backup knows nothing of the purges since: it is not trusted, and a log that lost entries begins a new epoch."""
    found = {edge.name: {lineage.standing(mark) for mark in edge.marks} for edge in edges}
    lost = any(Standing.NEWER in standings for standings in found.values())
    for edge in edges:
        purge_log.continue_after(edge.state.watermark)
        if lost or found[edge.name] != {Standing.SAME}:
            edge.state.distrust(BROKEN)
    if lost:
        log.warning("everything will be purged", because=BROKEN)
        purge_log.begin_epoch(max((edge.state.watermark for edge in edges), default=0))
    mark = lineage.renew()
    for edge in edges:
        edge.mark(mark)


def settle_edges(lineage: Lineage, edges: Sequence[FleetEdge]) -> None:
    """The same where the log is not in the data directory: then only an edge can be older than the rest."""
    for edge in edges:
        if {lineage.standing(mark) for mark in edge.marks} != {Standing.SAME}:
            edge.state.distrust(BROKEN)
    mark = lineage.renew()
    for edge in edges:
        edge.mark(mark)


async def start_processes(edges: Sequence[FleetEdge]) -> None:
    """The embedded edge serves from now on, without its cache."""
    for edge in edges:
        if edge.process is not None and edge.process.pid is None:
            await edge.process.start(wipe=bool(edge.state.doubt))


async def stop_processes(edges: Sequence[FleetEdge]) -> None:
    """The embedded edge ends."""
    for edge in edges:
        if edge.process is not None:
            await edge.process.stop()


@contextlib.asynccontextmanager
async def running_edges(edges: Sequence[FleetEdge], purge_log: PurgeLog, control: ControlSide) -> AsyncIterator[list[Agent]]:
    """An agent for each. Ended in good order an edge is on record as fenced, so that the next start need not wait for its lease."""
    agents = [Agent(edge.name, edge.driver, purge_log, control, edge.state, tier=edge.tier, lease_s=edge.lease_s) for edge in edges]
    try:
        for edge, agent in zip(edges, agents, strict=True):
            if edge.process is not None:
                edge.process.on_restart = agent.edge_restarted
        await start_processes(edges)
        async with background(*(agent.run() for agent in agents), *_renewals(edges)):
            yield agents
    finally:
        await asyncio.gather(*(_leave(edge, agent, control) for edge, agent in zip(edges, agents, strict=True)))


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    """What the file system refuses becomes a :class:`UserError`."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"the purge table in {path} cannot be opened: {error.strerror}", "make room, or correct the owner of the data directory"
        ) from None


async def _leave(edge: FleetEdge, agent: Agent, control: ControlSide) -> None:
    fenced = True
    try:
        if edge.process is not None:
            await edge.process.stop()
        else:
            async with asyncio.timeout(LEAVE_S):
                await edge.driver.fence()
            fenced = not agent.lease_on_its_way
    except (DriverFailed, TimeoutError):
        fenced = False  # its lease runs out by itself, and the next start waits for that
    await edge.driver.aclose()
    if fenced and agent.token:
        with contextlib.suppress(NotJoined, Superseded, TimeoutError):  # a courtesy to the next start: no reason to wait for room on the disk
            async with asyncio.timeout(LEAVE_S):
                await control.leave(agent.name, agent.token)


def _renewals(edges: Sequence[FleetEdge]) -> Iterator[Coroutine[object, object, None]]:
    """What takes up new certificates."""
    for edge in edges:
        if edge.process is not None and (files := edge.process.settings.certificate) is not None:
            yield follow(files, edge.process.reload)


def _embedded(config: Config) -> FleetEdge:
    settings = _settings(config)
    process = EdgeProcess(settings, config.data_dir)
    path = config.data_dir / "slots"
    with opening(path):
        slots = SlotFile(path, settings.slots)
    driver = NginxDriver(process.files, slots, process.files.marks(settings))
    return FleetEdge(settings.name, driver, slots, beside=MarkFile(config.data_dir / "edge" / "lineage"), process=process)


def _settings(config: Config) -> EdgeSettings:
    try:
        return EdgeSettings(**msgspec.structs.asdict(config.edge))
    except ValueError as error:
        raise UserError(f"a setting in [edge] is not valid: {error}", "docs/OPERATING.md lists every setting") from None
