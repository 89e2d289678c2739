"""Puts the parts together: the one place that knows them all. With NATS, :mod:`agezero.app_fleet` does; it is loaded only then.

Start from the inside out, so that nothing is promised before it can be kept: the data directory, the log, the edges' state, the embedded edge
(which serves at once, without its cache), the agents, the API. It gives no status before the ledger has recovered. Stop in the opposite order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator

import msgspec
import uvloop

from agezero import logs
from agezero.audit import Audit
from agezero.background import background, threads_ended
from agezero.config import Config
from agezero.console.ended import EndedHere
from agezero.console.sessions import Sessions
from agezero.control import Control
from agezero.core.purge import RequestIds
from agezero.database import check, in_words, open_database, prepare, service_secret
from agezero.errors import UserError
from agezero.events import ControlEvents
from agezero.fleet import FleetEdge, open_edges, running_edges, settle_lineage, tables
from agezero.fronts import Fronts, fronts
from agezero.http.native.routes import Native
from agezero.http.server import HttpServer
from agezero.journal import Journal
from agezero.keys import KeyStore
from agezero.lineage import Lineage
from agezero.log.history import SqliteHistory
from agezero.log.sqlite import SqliteLog, check_here
from agezero.registry import SqliteRegistry
from agezero.serving import Parts, addresses, build_server, serving, tell, tell_key, traced
from agezero.tls import certificate_files
from agezero.webhooks.service import Webhooks
from agezero.webhooks.store import Store

KEY_ENV = "AGEZERO_PRIVATE_KEY"


def run(config: Config) -> None:
    """Run the service and its edges until SIGTERM or SIGINT. Raises :class:`UserError`."""
    need_edges(config)
    logs.configure(form=config.logging.format)
    uvloop.run(_until_signal(config))


def need_edges(config: Config) -> None:
    """Raises :class:`UserError` where there are none."""
    if not config.edge.origin and not config.edges:
        raise UserError(
            "there is no edge: no origin is set for the embedded one, and no [[edges]] are in the settings",
            "give --origin http://HOST:PORT, or origin in the [edge] section, or describe your own caches in [[edges]]",
        )


async def _until_signal(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(config) as http:
        tell("\n".join(addresses(config, api=True, edges=True)))
        ended = [asyncio.create_task(stop.wait()), asyncio.create_task(http.wait())]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.cancel()


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[HttpServer]:
    """The whole service, started; ended with the block."""
    certificate_files(config.edge.tls_certificate, config.edge.tls_key, "edge")
    with traced(config), _storage(config) as (purge_log, edges, control, parts):
        http = build_server(parts)
        purge_log.start()
        async with threads_ended():
            try:
                async with running_edges(edges, purge_log, control) as agents, background(control.run()), serving(parts, http, agents):
                    yield http
            finally:
                await purge_log.stop()


@contextlib.contextmanager
def _storage(config: Config) -> Iterator[tuple[SqliteLog, list[FleetEdge], Control, Parts]]:
    """Everything that lies in the data directory."""
    data = config.data_dir
    with contextlib.ExitStack() as open_files:
        open_files.enter_context(prepare(data))
        check(data)
        connections = [open_files.enter_context(contextlib.closing(open_database(data))) for _ in range(7)]
        with in_words(data):
            keys = KeyStore(connections[0], os.environ.get(KEY_ENV) or None)
            check_here(connections[1])
            purge_log = SqliteLog(connections[1], config.log.retention_purges)
            edges = open_files.enter_context(open_edges(config))
            settle_lineage(Lineage(connections[0]), purge_log, edges)
            secret = service_secret(connections[0])
            ids, sessions = RequestIds(secret), Sessions(secret, EndedHere(connections[6]))
            control = Control(purge_log, SqliteRegistry(connections[2]), ids, config.lease.lease_s, config.lease.margin_s)
            history = SqliteHistory(connections[3])
            webhooks = Webhooks(Store(connections[5]), ControlEvents(control, history), **msgspec.structs.asdict(config.webhooks))
            native = Native(Journal(control, history), Audit(connections[4], history), webhooks, Fronts(fronts(config)))
            first = keys.first()
        tell_key(first)
        yield (
            purge_log,
            edges,
            control,
            Parts(
                config=config,
                control=control,
                keys=keys,
                native=native,
                sessions=sessions,
                recovered=control.recovered.wait,
                tables=tables(edges),
            ),
        )
