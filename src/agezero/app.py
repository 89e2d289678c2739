"""Puts the parts together: the one place that knows them all.

Start from the inside out, so that nothing is promised before it can be kept: the data directory, the log, the edges' state, the embedded edge
(which serves at once, without its cache), the agents, the API. It gives no status before the ledger has recovered. Stop in the opposite order.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial

import msgspec
import structlog
import uvloop

from agezero import logs, tracing
from agezero.agent import Agent
from agezero.audit import Audit
from agezero.background import background, threads_ended
from agezero.config import Api, Config, Edge, parse_address
from agezero.console.mount import Console
from agezero.console.sessions import Sessions
from agezero.control import Control
from agezero.core.purge import RequestIds
from agezero.database import FILE, check, in_words, open_database, prepare, service_secret
from agezero.errors import UserError
from agezero.events import ControlEvents
from agezero.fleet import FleetEdge, open_edges, running_edges, settle_lineage, tables
from agezero.fronts import Fronts, fronts
from agezero.http.access import RequestLog
from agezero.http.application import build_application
from agezero.http.metrics import HttpMetrics
from agezero.http.native.routes import Native
from agezero.http.server import HttpServer
from agezero.journal import Journal
from agezero.keys import KeyStore
from agezero.lineage import Lineage
from agezero.log.history import SqliteHistory
from agezero.log.sqlite import SqliteLog
from agezero.metrics import FleetMetrics, StoreMetrics
from agezero.registry import SqliteRegistry
from agezero.tls import certificate_files, follow
from agezero.webhooks.service import Webhooks
from agezero.webhooks.store import Store

KEY_ENV = "AGEZERO_PRIVATE_KEY"
COLLECTOR_ENV = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
KEYS_REFRESH_S = 1.0
SERVING_S = 5.0
"""How long the start waits for the edges' first leases."""

log = structlog.get_logger()


def run(config: Config) -> None:
    """Run the service and its edges until SIGTERM or SIGINT. Raises :class:`UserError`."""
    if not config.edge.origin and not config.edges:
        raise UserError(
            "there is no edge: no origin is set for the embedded one, and no [[edges]] are in the settings",
            "give --origin http://HOST:PORT, or origin in the [edge] section, or describe your own caches in [[edges]]",
        )
    logs.configure(form=config.logging.format)
    uvloop.run(_until_signal(config))


async def _until_signal(config: Config) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(config) as http:
        _tell("\n".join(_addresses(config)))
        ended = [asyncio.create_task(stop.wait()), asyncio.create_task(http.wait())]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.cancel()


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[HttpServer]:
    """The whole service, started; ended with the block."""
    address = parse_address(config.api.listen)
    certificate = certificate_files(config.api.tls_certificate, config.api.tls_key, "api")
    certificate_files(config.edge.tls_certificate, config.edge.tls_key, "edge")
    metrics = HttpMetrics()
    with _tracing(config.traces.otlp), _storage(config) as (purge_log, edges, keys, control, native, sessions):
        FleetMetrics(control, tables(edges), metrics.registry, config.webhooks.blocked_after_s)
        StoreMetrics(native.webhooks, native.audit, config.data_dir / FILE, metrics.registry)
        application = build_application(config, control, keys, metrics, native, partial(Console, sessions))
        logged = RequestLog(application, reads=config.logging.requests == "all") if config.logging.requests != "none" else application
        http = HttpServer(logged, address.host, address.port, certificate)
        purge_log.start()
        async with threads_ended():
            async with (
                running_edges(edges, purge_log, control) as agents,
                background(control.run(), _refresh(keys), _started(control, agents), native.audit.run(), native.webhooks.run()),
                native.fronts,
                http,
                background(*([follow(certificate, http.renew)] if certificate else [])),
            ):
                try:
                    yield http
                finally:
                    log.info("stopping")
                    control.progress.close()  # who waits is let go now, and need not be cut off
            await native.audit.flush()
            await purge_log.stop()


@contextlib.contextmanager
def _tracing(endpoint: str) -> Iterator[None]:
    """Traces, where a collector is named: in the settings, or as all programs with OpenTelemetry have it named."""
    if not endpoint and not any(map(os.environ.get, COLLECTOR_ENV)):
        yield
        return
    try:
        from agezero.otlp import OtlpTracer
    except ModuleNotFoundError as error:
        missing = f"no traces are sent: {error.name} is not installed"
        if endpoint:
            raise UserError(missing, "pip install 'agezero[otel]', or take [traces] out of the settings") from None
        log.warning(missing, hint="pip install 'agezero[otel]'")
        yield
        return
    tracing.tracer = tracer = OtlpTracer(endpoint)
    try:
        yield
    finally:
        tracing.tracer = None
        tracer.close()


@contextlib.contextmanager
def _storage(config: Config) -> Iterator[tuple[SqliteLog, list[FleetEdge], KeyStore, Control, Native, Sessions]]:
    """Everything that lies in the data directory."""
    data = config.data_dir
    with contextlib.ExitStack() as open_files:
        open_files.enter_context(prepare(data))
        check(data)
        connections = [open_files.enter_context(contextlib.closing(open_database(data))) for _ in range(7)]
        with in_words(data):
            keys = KeyStore(connections[0], os.environ.get(KEY_ENV) or None)
            purge_log = SqliteLog(connections[1], config.log.retention_purges)
            edges = open_files.enter_context(open_edges(config))
            settle_lineage(Lineage(connections[0]), purge_log, edges)
            secret = service_secret(connections[0])
            ids, sessions = RequestIds(secret), Sessions(secret, connections[6])
            control = Control(purge_log, SqliteRegistry(connections[2]), ids, config.lease.lease_s, config.lease.margin_s)
            history = SqliteHistory(connections[3])
            webhooks = Webhooks(Store(connections[5]), ControlEvents(control, history), **msgspec.structs.asdict(config.webhooks))
            native = Native(Journal(control, history), Audit(connections[4], history), webhooks, Fronts(fronts(config)))
            first = keys.first()
        if first:
            _show(first)
        yield purge_log, edges, keys, control, native, sessions


def _addresses(config: Config) -> Iterator[str]:
    api = f"{_scheme(config.api)}://{config.api.listen}"
    yield f"API  {api}  (console {api}/console)"
    if config.edge.origin:
        yield f"edge {_scheme(config.edge)}://{config.edge.listen}  (origin {config.edge.origin})"
    for edge in config.edges:
        yield f"edge {edge.name}  ({edge.driver})"


def _scheme(section: Api | Edge) -> str:
    return "https" if section.tls_certificate else "http"


async def _started(control: Control, agents: Sequence[Agent]) -> None:
    """Say so once purges can be proven and the edges use their caches."""
    await control.recovered.wait()
    with contextlib.suppress(TimeoutError):  # an edge that has trouble must not keep the service from being ready
        async with asyncio.timeout(SERVING_S):
            for agent in agents:
                await agent.serving.wait()
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


def _show(key: str) -> None:
    try:
        print(f"A private key was made for you; it is shown only now:\n\n    {key}\n", flush=True)
    except OSError as error:
        raise UserError(
            f"a private key was made for you, but can not be shown: {error.strerror}",
            "make room where the output goes, and make another: agezero keys create NAME --permission admin",
        ) from None


def _tell(text: str) -> None:
    """Where the output goes to a disk that is full, the service has to go on all the same."""
    with contextlib.suppress(OSError):
        print(text, flush=True)
