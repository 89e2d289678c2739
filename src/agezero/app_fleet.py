"""Puts the parts of a fleet together: a control node (``agezero serve``), agents beside caches (``agezero agent``), or both (``agezero up``).

A control node keeps nothing that another one could not go on with, but for its audit of what is not a purge. An agent keeps how far its edges have
come. Its edges serve at once, without their caches, also where no NATS server answers yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager

import msgspec
import uvloop

from agezero import logs
from agezero.app import KEY_ENV, need_edges
from agezero.audit import Audit
from agezero.background import threads_ended
from agezero.config import Config
from agezero.console.ended import EndedEverywhere
from agezero.console.sessions import Sessions
from agezero.database import check, in_words, open_database, prepare
from agezero.errors import UserError
from agezero.events import ControlEvents
from agezero.fleet import FleetEdge, open_edges, running_edges, settle_edges, start_processes, stop_processes, tables
from agezero.fleet_nats import FleetNode, FleetSettings, fleet_node, linked, patient_agent_side, plain_errors, shared_documents
from agezero.fronts import Fronts, fronts
from agezero.http.native.routes import Native
from agezero.jetstream.access import access_of
from agezero.jetstream.history import JetStreamHistory
from agezero.journal import Journal
from agezero.lineage import Lineage
from agezero.ports import BoardUnavailable, LogUnavailable
from agezero.serving import Parts, addresses, build_server, in_service, serving, tell, tell_key, traced
from agezero.shared_keys import SharedKeys
from agezero.tls import certificate_files
from agezero.webhooks.service import Webhooks
from agezero.webhooks.shared import SharedStore, Turn

Wait = Callable[[], Awaitable[object]]
"""Returns when the process has to end by itself."""


def up(config: Config) -> None:
    """A control node and this machine's edges in one process. Raises :class:`UserError`."""
    need_edges(config)
    _run(config, running_node(config, edges=True))


def serve(config: Config, *, new_fleet: bool = False) -> None:
    """A control node. ``new_fleet``: there never was an edge. Raises :class:`UserError`."""
    _need_servers(config, "serve")
    if not config.endpoints and not config.edge.origin and not any(edge.front for edge in config.edges):
        raise UserError(
            "nothing may be purged: a control node has no edge whose URL could be the endpoint",
            'give --endpoint https://cdn.example.com, or endpoints = ["https://cdn.example.com"]',
        )
    _run(config, running_node(config, edges=False, new_fleet=new_fleet))


def agent(config: Config) -> None:
    """The agents of this machine's edges. Raises :class:`UserError`."""
    _need_servers(config, "agent")
    need_edges(config)
    _run(config, running_agents(config))


@contextlib.asynccontextmanager
async def running_node(config: Config, *, edges: bool, new_fleet: bool = False) -> AsyncIterator[Wait]:
    """A control node, started, with the edges in the settings or without."""
    with _local(config) as open_files:
        own = _own_edges(config, open_files) if edges else []
        settings = FleetSettings(**msgspec.structs.asdict(config.lease), **_of_log(config), first_ever=new_fleet)
        access = access_of(config, "agezero up" if edges else "agezero serve")
        async with _standing(own), fleet_node(access, settings) as node, threads_ended():
            parts = await _parts(config, node, own, open_files)
            http = build_server(parts)
            async with running_edges(own, node.log, node.control) as agents, serving(parts, http, agents):
                tell("\n".join(addresses(config, api=True, edges=edges)))
                yield http.wait


def _of_log(config: Config) -> dict[str, int]:
    return {"retention_purges": config.log.retention_purges, "bytes_max": config.log.bytes_max}


@contextlib.asynccontextmanager
async def running_agents(config: Config) -> AsyncIterator[Wait]:
    """Agents, started, as soon as there is a log."""
    with _local(config) as open_files:
        edges = _own_edges(config, open_files)
        access = access_of(config, "agezero agent")
        async with _standing(edges):
            tell("\n".join(addresses(config, api=False, edges=True)))
            async with patient_agent_side(access) as (purge_log, control), running_edges(edges, purge_log, control) as agents:
                await in_service(agents)
                tell("ready")
                yield asyncio.Event().wait


@contextlib.contextmanager
def fleet_keys(config: Config) -> Iterator[SharedKeys]:
    """The keys of the fleet, from a thread that has an event loop of its own. Raises :class:`UserError`."""
    ready: Future[tuple[SharedKeys, Callable[[], object]]] = Future()

    async def live() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        async with plain_errors(), linked(access_of(config, "agezero keys")) as link, shared_documents(link) as documents:
            ready.set_result((SharedKeys(documents, loop), lambda: loop.call_soon_threadsafe(ended.set)))
            await ended.wait()

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)

    thread = threading.Thread(target=run, name="fleet-keys")
    thread.start()
    with _in_words():
        try:
            keys, end = ready.result()
            try:
                yield keys
            finally:
                end()
        finally:
            thread.join()


def _run(config: Config, work: AbstractAsyncContextManager[Wait]) -> None:
    logs.configure(form=config.logging.format)
    with _in_words(), traced(config):
        uvloop.run(_until_signal(work))


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except (BoardUnavailable, LogUnavailable) as error:
        raise UserError(
            f"JetStream does not answer: {error}", "check that the NATS servers run with JetStream, and that most of them are up"
        ) from None


async def _until_signal(work: AbstractAsyncContextManager[Wait]) -> None:
    """Signals count from the first moment on: a start may have to wait for servers."""

    async def live() -> None:
        async with work as ended:
            await ended()

    task = asyncio.create_task(live())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


@contextlib.contextmanager
def _local(config: Config) -> Iterator[contextlib.ExitStack]:
    """The data directory, in use by this process alone."""
    with contextlib.ExitStack() as open_files:
        open_files.enter_context(prepare(config.data_dir))
        check(config.data_dir)
        yield open_files


def _own_edges(config: Config, open_files: contextlib.ExitStack) -> list[FleetEdge]:
    certificate_files(config.edge.tls_certificate, config.edge.tls_key, "edge")
    with in_words(config.data_dir):
        edges = open_files.enter_context(open_edges(config))
        with contextlib.closing(open_database(config.data_dir)) as connection:
            settle_edges(Lineage(connection), edges)
    return edges


@contextlib.asynccontextmanager
async def _standing(edges: Sequence[FleetEdge]) -> AsyncIterator[None]:
    """The embedded edge serves while the block lasts, whatever else has to be waited for."""
    try:
        await start_processes(edges)
        yield
    finally:
        await stop_processes(edges)


async def _parts(config: Config, node: FleetNode, edges: Sequence[FleetEdge], open_files: contextlib.ExitStack) -> Parts:
    loop = asyncio.get_running_loop()
    keys = SharedKeys(node.documents, loop, os.environ.get(KEY_ENV) or None)
    tell_key(await asyncio.to_thread(keys.first))
    history = JetStreamHistory(node.log)
    turn, events = Turn(node.webhooks), ControlEvents(node.control, history)
    index = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    open_files.enter_context(contextlib.closing(index))
    webhooks = Webhooks(SharedStore(node.webhooks, loop, index), events, **msgspec.structs.asdict(config.webhooks), turn=turn.mine)
    rows = open_files.enter_context(contextlib.closing(open_database(config.data_dir)))
    with in_words(config.data_dir):
        native = Native(Journal(node.control, history), Audit(rows, history), webhooks, Fronts(fronts(config)))
    return Parts(
        config=config,
        control=node.control,
        keys=keys,
        native=native,
        sessions=Sessions(node.secret, EndedEverywhere(node.documents, loop)),
        recovered=node.control.recover,
        tables=tables(edges),
        turn=turn,
    )


def _need_servers(config: Config, command: str) -> None:
    if not config.log.url:
        raise UserError(
            f"`agezero {command}` needs a log that several processes share, and log.url names no NATS servers",
            "give --log nats://HOST:4222, or url in the [log] section; `agezero up` does without",
        )
