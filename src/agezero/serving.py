"""The HTTP side of a process, put together: what ``agezero up`` and ``agezero serve`` have in common."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from agezero import tracing
from agezero.agent import Agent
from agezero.background import background
from agezero.config import Api, Config, Edge, parse_address
from agezero.console.mount import Console
from agezero.console.sessions import Sessions
from agezero.control import ControlNode
from agezero.core.epochs import EpochTable
from agezero.database import FILE
from agezero.errors import UserError
from agezero.http.access import RequestLog
from agezero.http.application import build_application
from agezero.http.metrics import HttpMetrics
from agezero.http.native.routes import Native
from agezero.http.server import HttpServer
from agezero.keys import KeyRing
from agezero.metrics import FleetMetrics, StoreMetrics
from agezero.tls import certificate_files, follow
from agezero.webhooks.shared import Turn

COLLECTOR_ENV = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
KEYS_REFRESH_S = 1.0
SERVING_S = 5.0
"""How long the start waits for the edges' first leases."""

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What is served. ``recovered``: returns once purges can be proven."""

    config: Config
    control: ControlNode
    keys: KeyRing
    native: Native
    sessions: Sessions
    recovered: Callable[[], Awaitable[object]]
    tables: Mapping[str, EpochTable] = field(default_factory=dict)
    turn: Turn | None = None
    """Where several processes could tell webhooks: whether this one does."""


@contextlib.asynccontextmanager
async def serving(parts: Parts, http: HttpServer, agents: Sequence[Agent]) -> AsyncIterator[HttpServer]:
    """The API, while the block lasts. ``agents``: those of this process."""
    native, control = parts.native, parts.control
    renewals = [follow(http.certificate, http.renew)] if http.certificate else []
    async with (
        background(*([parts.turn.run()] if parts.turn else [])),
        background(_refresh(parts.keys), _started(parts, agents), native.audit.run(), native.webhooks.run()),
        native.fronts,
        http,
        background(*renewals),
    ):
        try:
            yield http
        finally:
            log.info("stopping")
            control.progress.close()  # who waits is let go now, and need not be cut off
    await native.audit.flush()


def build_server(parts: Parts) -> HttpServer:
    """Its port is taken, but nothing answers yet. Raises :class:`agezero.errors.UserError`."""
    config, metrics = parts.config, HttpMetrics()
    address = parse_address(config.api.listen)
    FleetMetrics(parts.control, parts.tables, metrics.registry, config.webhooks.blocked_after_s)
    StoreMetrics(parts.native.webhooks, parts.native.audit, config.data_dir / FILE, metrics.registry)
    application = build_application(config, parts.control, parts.keys, metrics, parts.native, partial(Console, parts.sessions))
    logged = RequestLog(application, reads=config.logging.requests == "all") if config.logging.requests != "none" else application
    return HttpServer(logged, address.host, address.port, certificate_files(config.api.tls_certificate, config.api.tls_key, "api"))


@contextlib.contextmanager
def traced(config: Config) -> Iterator[None]:
    """Traces, where a collector is named: in the settings, or as all programs with OpenTelemetry have it named. Raises :class:`UserError`."""
    endpoint = config.traces.otlp
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


def addresses(config: Config, *, api: bool, edges: bool) -> Iterator[str]:
    """For people: what is where."""
    if api:
        url = f"{_scheme(config.api)}://{config.api.listen}"
        yield f"API  {url}  (console {url}/console)"
    if edges and config.edge.origin:
        yield f"edge {_scheme(config.edge)}://{config.edge.listen}  (origin {config.edge.origin})"
    for edge in config.edges if edges else ():
        yield f"edge {edge.name}  ({edge.driver})"


def tell(text: str) -> None:
    """To stdout, at once. Where that goes to a disk that is full, the service has to go on all the same."""
    with contextlib.suppress(OSError):
        print(text, flush=True)


def tell_key(text: str | None) -> None:
    """The first key, if one was made. Raises :class:`UserError` where it can't be shown: nobody would ever know it."""
    try:
        if text:
            print(f"A private key was made for you; it is shown only now:\n\n    {text}\n", flush=True)
    except OSError as error:
        raise UserError(
            f"a private key was made for you, but can not be shown: {error.strerror}",
            "make room where the output goes, and make another: agezero keys create NAME --permission admin",
        ) from None


async def in_service(agents: Sequence[Agent]) -> None:
    """Return once the edges use their caches. One that has trouble must not keep the others from being ready."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SERVING_S):
            for agent in agents:
                await agent.serving.wait()


async def _started(parts: Parts, agents: Sequence[Agent]) -> None:
    """Say so once purges can be proven and the edges use their caches."""
    await parts.recovered()
    await in_service(agents)
    parts.control.started = True
    tell("ready")


async def _refresh(keys: KeyRing) -> None:
    """Notice keys that another process has changed."""
    while True:
        await asyncio.sleep(KEYS_REFRESH_S)
        try:
            keys.refresh()
        except sqlite3.Error as error:  # the keys known so far stay valid
            log.warning("keys not read again", error=str(error))


def _scheme(section: Api | Edge) -> str:
    return "https" if section.tls_certificate else "http"
