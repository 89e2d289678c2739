"""A fleet to be broken: three NATS servers, two control nodes, six edges: two nginx, two Varnish, two simulated, each behind a proxy."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from agezero.agent import Agent
from agezero.fleet_nats import patient_agent_side
from agezero.jetstream.link import Access
from support.caches.varnish import VarnishEdge
from support.edges import MemoryStore
from support.fleet import ENDPOINT, HOST, Program
from support.machine import POLL_S
from support.nats import Servers, nats_servers
from support.ports import free_address
from support.proxy import Proxy, proxied
from support.service import AGEZERO
from support.simulated import SimulatedEdge
from support.stamped import VARIANT
from support.wire import Answer, Broken, Wire

LEASE_S = 2.0
MARGIN_S = 0.5
RETENTION = 150
"""Purges that are kept: so few that an edge which is away for some seconds comes back below the floor."""
CONFIG = f"[lease]\nlease_s = {LEASE_S}\nmargin_s = {MARGIN_S}\nlease_max_s = {LEASE_S}\n"
LOG = f"[log]\nretention_purges = {RETENTION}\n"
UNSAFE = Path(__file__).parents[2] / "support" / "unsafe.py"
READY_S = 60.0


@dataclass
class Edge:
    """One edge. ``ask`` is what a visitor does; ``kill``, ``start``, ``pause``, ``go_on`` are its agent's."""

    name: str
    proxy: Proxy
    ask: Callable[[str, str], Awaitable[Answer]]
    kill: Callable[[], Awaitable[None]]
    start: Callable[[], None]
    pause: Callable[[], None]
    go_on: Callable[[], None]


@dataclass
class Scene:
    """All of it, and how to ask it."""

    servers: Servers
    nodes: list[Program] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)

    async def ready(self) -> None:
        """Every node can prove, says every node."""
        for node in self.nodes:
            async with asyncio.timeout(READY_S):
                while not await is_ready(node):  # noqa: ASYNC110 (another process cannot set an event here)
                    await asyncio.sleep(POLL_S)

    def logs(self) -> str:
        """What every process of ours has printed."""
        return "".join(f"--- {node.name}\n{node.output}" for node in self.nodes)


async def is_ready(node: Program) -> bool:
    """What it says of itself, if it says anything."""
    assert node.process is not None
    if (code := node.process.poll()) is not None and code >= 0:
        raise AssertionError(f"agezero serve ended by itself with {code}:\n{node.output[-3000:]}")
    wire = Wire(node.address, timeout_s=1)
    try:
        return (await wire.request("GET", "/readyz")).status == 200
    except Broken:
        return False
    finally:
        await wire.aclose()


@contextlib.asynccontextmanager
async def scene(directory: Path, origin: str, *, fence: bool = True) -> AsyncIterator[Scene]:
    """Started, and every edge leased. ``fence``: the safeguard; without it no edge looks at its lease."""
    async with contextlib.AsyncExitStack() as stack:
        servers = stack.enter_context(nats_servers(directory / "nats", 3))
        made = Scene(servers)
        for name in ("left", "right"):
            made.nodes.append(await _node(stack, directory, servers, name))
        for kind, make in (("nginx", _nginx), ("varnish", _varnish), ("simulated", _simulated)):
            for number in "12":
                proxy = await stack.enter_async_context(proxied([server.port for server in servers.all]))
                made.edges.append(await make(stack, directory, f"{kind}-{number}", origin, proxy, fence))
        await made.ready()
        yield made


async def _node(stack: contextlib.AsyncExitStack, directory: Path, servers: Servers, name: str) -> Program:
    address = free_address()
    flags = ["serve", "--endpoint", ENDPOINT, "--api", address, "--log", ",".join(servers.urls)]
    return _program(stack, Program(name, directory / name, address, flags, CONFIG + LOG))


def _program(stack: contextlib.AsyncExitStack, program: Program) -> Program:
    stack.push_async_callback(asyncio.to_thread, program.clear)
    program.start()
    return program


def _edge(program: Program, proxy: Proxy, ask: Callable[[str, str], Awaitable[Answer]]) -> Edge:
    async def kill() -> None:
        await asyncio.to_thread(program.kill)

    return Edge(program.name, proxy, ask, kill, program.start, lambda: program.signal(signal.SIGSTOP), lambda: program.signal(signal.SIGCONT))


def _asking(stack: contextlib.AsyncExitStack, address: str) -> Callable[[str, str], Awaitable[Answer]]:
    wire = Wire(address, {"host": HOST})
    stack.push_async_callback(wire.aclose)
    return lambda path, variant: wire.request("GET", path, {VARIANT: variant})


async def _nginx(stack: contextlib.AsyncExitStack, directory: Path, name: str, origin: str, proxy: Proxy, fence: bool) -> Edge:
    address = free_address()
    flags = ["agent", "--origin", origin, "--edge", address, "--log", ",".join(proxy.urls)]
    program = Program(name, directory / name, address, flags, f'{CONFIG}[edge]\nname = "{name}"\n')
    program.program = (AGEZERO,) if fence else (sys.executable, "-P", UNSAFE, "lease_checked")
    return _edge(_program(stack, program), proxy, _asking(stack, address))


async def _varnish(stack: contextlib.AsyncExitStack, directory: Path, name: str, origin: str, proxy: Proxy, fence: bool) -> Edge:
    cache = await asyncio.to_thread(VarnishEdge, origin, directory / name / "unused", without=() if fence else ("fence",))
    stack.push_async_callback(asyncio.to_thread, cache.close)
    await asyncio.to_thread(cache.start)
    settings = f'{CONFIG}[[edges]]\nname = "{name}"\ndriver = "varnish"\ncontrol = "{cache.control}"\n'
    program = Program(name, directory / name, "", ["agent", "--log", ",".join(proxy.urls)], settings)
    return _edge(_program(stack, program), proxy, _asking(stack, cache.host))


async def _simulated(stack: contextlib.AsyncExitStack, directory: Path, name: str, origin: str, proxy: Proxy, fence: bool) -> Edge:  # noqa: ARG001
    """Its agent lives in this process: to pause it is to cut it off; its cache dies with it."""
    cache, store = SimulatedEdge(origin, HOST, fence), MemoryStore()
    tasks: list[asyncio.Task[None]] = []

    async def live() -> None:
        async with patient_agent_side(Access(servers=proxy.urls)) as (log, control):
            await Agent(name, cache, log, control, store).run()

    async def kill() -> None:
        tasks[-1].cancel()
        await asyncio.gather(tasks[-1], return_exceptions=True)

    def start() -> None:
        cache.crash()
        tasks.append(asyncio.create_task(live()))

    start()
    stack.push_async_callback(cache.aclose)
    stack.push_async_callback(kill)
    return Edge(name, proxy, cache.request, kill, start, proxy.cut, proxy.heal)
