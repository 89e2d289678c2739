"""Puts the parts together: the one place that knows them all.

Start from the inside out, so that nothing is promised before it can be kept: the data directory, the log, the purge table, the edge
(which serves at once, without its cache), the agent, the API. It gives no status before the ledger has recovered. Stop in the opposite order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path

import msgspec
import structlog
import uvloop

from agezero.agent import Agent
from agezero.config import Config, parse_address
from agezero.control import Control
from agezero.core.purge import RequestIds
from agezero.database import check, in_words, open_database, prepare, service_secret
from agezero.edges.nginx.driver import NginxDriver
from agezero.edges.nginx.process import EdgeProcess
from agezero.edges.nginx.settings import EdgeSettings
from agezero.edges.slots import SlotFile
from agezero.errors import UserError
from agezero.http.application import build_application
from agezero.http.metrics import HttpMetrics
from agezero.http.server import HttpServer
from agezero.keys import KeyStore
from agezero.lineage import BROKEN, Lineage
from agezero.log.sqlite import SqliteLog
from agezero.metrics import FleetMetrics
from agezero.ports import Superseded
from agezero.registry import SqliteRegistry

KEY_ENV = "AGEZERO_PRIVATE_KEY"
KEYS_REFRESH_S = 1.0
LEAVE_S = 1.0
SERVING_S = 5.0
"""How long the start waits for the edge's first lease."""

log = structlog.get_logger()


def run(config: Config) -> None:
    """Run the service and its embedded edge until SIGTERM or SIGINT. Raises :class:`UserError`."""
    if not config.edge.origin:
        raise UserError("no origin is set: the edge has nowhere to fetch from", "give --origin http://HOST:PORT, or origin in the [edge] section")
    uvloop.run(_until_signal(config))


async def _until_signal(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(config) as http:
        _tell(f"API  http://{config.api.listen}\nedge http://{config.edge.listen}  (origin {config.edge.origin})")
        ended = [asyncio.create_task(stop.wait()), asyncio.create_task(http.wait())]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.cancel()


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[HttpServer]:
    """The whole service, started; ended with the block."""
    address = parse_address(config.api.listen)
    metrics = HttpMetrics()
    with _storage(config) as (purge_log, slots, keys, control):
        FleetMetrics(purge_log, control.ledger, slots.table, metrics.registry)
        http = HttpServer(build_application(config, control, keys, metrics), address.host, address.port)
        purge_log.start()
        async with (
            _edge(config, purge_log, slots, control) as agent,
            _background(control.run(), _refresh(keys), _started(control, agent)),
            http,
        ):
            yield http
            log.info("stopping")
        await purge_log.stop()


@contextlib.contextmanager
def _storage(config: Config) -> Iterator[tuple[SqliteLog, SlotFile, KeyStore, Control]]:
    """Everything that lies in the data directory."""
    data = config.data_dir
    with contextlib.ExitStack() as open_files:
        open_files.enter_context(prepare(data))
        check(data)
        connections = [open_files.enter_context(contextlib.closing(open_database(data))) for _ in range(3)]
        with in_words(data):
            keys = KeyStore(connections[0], os.environ.get(KEY_ENV) or None)
            slots = open_files.enter_context(contextlib.closing(_slot_file(data / "slots", config.edge.slots)))
            purge_log = SqliteLog(connections[1], config.log.retention_purges)
            purge_log.continue_after(slots.watermark)
            _check_lineage(Lineage(connections[0], slots, data / "edge" / "lineage"), purge_log, slots)
            ids = RequestIds(service_secret(connections[0]))
            control = Control(purge_log, SqliteRegistry(connections[2]), ids, config.lease.lease_s, config.lease.margin_s)
            first = keys.first()
        if first:
            _tell(f"A private key was made for you; it is shown only now:\n\n    {first}\n")
        yield purge_log, slots, keys, control


@contextlib.asynccontextmanager
async def _edge(config: Config, purge_log: SqliteLog, slots: SlotFile, control: Control) -> AsyncIterator[Agent]:
    """The embedded edge with its agent. Ended in good order it is on record as fenced, so that the next start need not wait for its lease."""
    process = EdgeProcess(_edge_settings(config), config.data_dir)
    driver = NginxDriver(process.files, slots, process.files.marks(process.settings))
    agent = Agent(config.edge.name, driver, purge_log, control, slots)
    process.on_restart = agent.edge_restarted
    await process.start(wipe=bool(slots.doubt))
    try:
        async with _background(agent.run()):
            yield agent
    finally:
        await process.stop()
        await driver.aclose()
        with contextlib.suppress(Superseded, TimeoutError):  # a courtesy to the next start: no reason to wait for room on the disk
            async with asyncio.timeout(LEAVE_S):
                await control.leave(agent.name, agent.token)


def _check_lineage(lineage: Lineage, purge_log: SqliteLog, slots: SlotFile) -> None:
    """What was restored from a backup knows nothing of the purges since: begin a new log epoch, with an empty cache."""
    if lineage.broken():
        log.warning("everything will be purged", because=BROKEN)
        slots.distrust(BROKEN)
        purge_log.begin_epoch(slots.watermark)
    lineage.renew()


def _edge_settings(config: Config) -> EdgeSettings:
    try:
        return EdgeSettings(**msgspec.structs.asdict(config.edge))
    except ValueError as error:
        raise UserError(f"a setting in [edge] is not valid: {error}", "docs/OPERATING.md lists every setting") from None


def _slot_file(path: Path, slots: int) -> SlotFile:
    try:
        return SlotFile(path, slots)
    except OSError as error:
        raise UserError(
            f"the purge table {path} cannot be opened: {error.strerror}", "make room, or correct the owner of the data directory"
        ) from None


@contextlib.asynccontextmanager
async def _background(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run ``work`` while the block lasts; if any of it fails, the block does too."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def _started(control: Control, agent: Agent) -> None:
    """Say so once purges can be proven and the edge uses its cache."""
    await control.recovered.wait()
    with contextlib.suppress(TimeoutError):  # an edge that has trouble must not keep the service from being ready
        await asyncio.wait_for(agent.serving.wait(), SERVING_S)
    control.started = True
    _tell("ready")


async def _refresh(keys: KeyStore) -> None:
    """Notice keys that another process has changed."""
    while True:
        await asyncio.sleep(KEYS_REFRESH_S)
        try:
            keys.refresh()
        except sqlite3.Error as error:  # the keys known so far stay valid
            log.warning("keys not read again", error=str(error))


def _tell(text: str) -> None:
    print(text, file=sys.stdout, flush=True)
