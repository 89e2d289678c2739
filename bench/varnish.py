"""Varnish with agezero.vcl beside the same Varnish without it, and the agent beside four others who purge over as many connections.

What "the same requests" are is a matter of view, so each view has a row. A raw client that sends one stock PURGE for each URL does the job that
everybody knows. A raw client that sends our own commands, one for each URL, or thirty-two in one as the driver does, shows what Varnish itself can
take of them: the names in them are computed beforehand, nothing is ordered, saved or checked. The fourth is a forwarder (:mod:`bench.forwarder`).
"""

from __future__ import annotations

import asyncio
import http.client
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, closing
from pathlib import Path

import uvloop

from agezero.core.selector import Kind, Selector
from agezero.edges.varnish import names
from agezero.edges.varnish.vcl import URLS_MAX
from bench import caches, raw, wrk
from bench.caches import OBJECT, Cache, Peer, Sides, by_purge
from bench.followed import Followed, followed
from bench.forwarder import Forwarder
from bench.harness import Figure, NotMeasured, Scale, Tick, at_least, at_most, percentile
from bench.service import service
from support.caches.base import CacheEdge
from support.caches.varnish import VarnishEdge, running_varnish

CONNECTIONS = 4
ORIGIN_S = 0.2
UNRELATED_PER_S = 200
STOCK = 'sub vcl_recv { if (req.method == "PURGE") { return (purge); } }'
_SLOW_READERS = 32


def _start(origin: str, folder: Path, ours: bool) -> AbstractContextManager[VarnishEdge]:
    return running_varnish(origin, folder, opened=False, include=ours, after="" if ours else STOCK, storage="malloc,512m")


def _raw(most: int) -> Callable[[CacheEdge, CacheEdge, Sequence[str]], float]:
    """By our own commands, of up to ``most`` URLs each."""

    def took_s(ours: CacheEdge, bare: CacheEdge, urls: Sequence[str]) -> float:  # noqa: ARG001 - a Peer's
        assert isinstance(ours, VarnishEdge)
        return raw.took_s(ours.control, commands(urls, ours, most), CONNECTIONS)

    return took_s


def commands(urls: Sequence[str], edge: VarnishEdge, most: int) -> list[bytes]:
    """As the driver makes them."""
    made = []
    for begin in range(0, len(urls), most):
        pairs = [names.url_names(url) for url in urls[begin : begin + most]]
        counters = "".join(f"AgeZero-{number}: {counter}\r\n" for number, (_, counter) in enumerate(pairs, 1))
        head = f"AGEZERO /urls HTTP/1.1\r\nHost: agezero\r\nAgeZero-Token: {edge.position.token}\r\nAgeZero-Boot: {edge.position.boot}\r\n"
        made.append(f"{head}AgeZero-Keys: {' '.join(key for key, _ in pairs)}\r\n{counters}\r\n".encode())
    return made


def _forwarded(ours: CacheEdge, bare: CacheEdge, urls: Sequence[str]) -> float:  # noqa: ARG001 - a Peer's
    async def forward() -> float:
        async with Forwarder(bare.host, CONNECTIONS) as forwarder:
            return await forwarder.purge(urls)

    return uvloop.run(forward())


async def _flood(sides: Sides) -> list[Figure]:
    """As many prefixes as an attacker or a fool may purge, and hits beside what they were."""
    scale, url = sides.scale, sides.ours.url + OBJECT
    flood = [Selector(Kind.PREFIX, f"{sides.ours.host}/flood/{number}/") for number in range(scale.purges_in_table)]
    before = [await asyncio.to_thread(wrk.load, url, caches.LOADED_BY, scale.seconds) for _ in range(scale.cache_rounds)]
    took_s = await sides.agent.purge(flood)
    await caches.store(sides)
    after = [await asyncio.to_thread(wrk.load, url, caches.LOADED_BY, scale.seconds) for _ in range(scale.cache_rounds)]
    slowed = statistics.median(after) / statistics.median(before)
    told = f"{len(flood):,} purges in {took_s:.1f} s; {statistics.median(before):,.0f} hits/s before, {statistics.median(after):,.0f} after"
    what = f"Varnish: hits/s after {len(flood):,} purges of prefixes"
    return [Figure(what, slowed, "×", "before them", at_least(0.85), told, {"before": before, "after": after})]


_WHO = f"a raw client over {CONNECTIONS} connections"
CACHE = Cache(
    title="Varnish",
    programs=("varnishd",),
    start=_start,
    is_hit=lambda headers: len(headers["X-Varnish"].split()) == 2,
    peers={
        "stock PURGE": Peer(f"{_WHO} that sends a stock PURGE for each", by_purge(CONNECTIONS), at_least(0.6, 0.8)),
        "raw, one each": Peer(f"{_WHO} that sends a command of ours for each", _raw(1), at_least(0.6, 0.8)),
        "raw, 32 each": Peer(f"{_WHO} that sends the very commands of the driver, {URLS_MAX} URLs each", _raw(URLS_MAX)),
        "forwarder": Peer(f"a forwarder that forgets, {CONNECTIONS} connections", _forwarded, at_least(0.8)),
    },
    hits=at_least(0.85),
    purges=at_least(8000, 15_000),
    prefix=at_most(20),
    fresh=True,
    more=_flood,
)


def parts(scale: Scale) -> int:
    return caches.parts(CACHE, scale) + scale.purges_timed + 1


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    figures = caches.measure(CACHE, scale, folder / "sides", tick)
    figures += asyncio.run(_slow(scale, folder, tick))
    return figures


async def _slow(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    """Figures for which an origin may take its time."""
    async with _slow_origin() as origin:
        with running_varnish(origin, folder / "varnish", opened=False) as edge:
            async with followed(folder / "log", edge.driver, edge.state) as agent:
                kept = await _kept(scale, edge, agent)
            tick()
            return [await asyncio.to_thread(_over_http, scale, folder / "service", edge, tick), kept]


# One purge, over HTTP


def _over_http(scale: Scale, folder: Path, edge: VarnishEdge, tick: Tick) -> Figure:
    """By the whole service, one purge at a time, each beside a raw one."""
    completed_ms, raw_ms = list[float](), list[float]()
    edges = f'[[edges]]\nname = "varnish"\ndriver = "varnish"\ncontrol = "{edge.control}"\nfront = "{edge.url}"\n'
    with service(folder, edges, edge.host) as ours, raw.connect(edge.control) as connected:
        connection = ours.connect()
        for number in range(scale.purges_timed):
            began_s = time.perf_counter()
            ours.wait_completed(ours.purge(f"/photos/{number}.jpg", connection), connection)
            completed_ms.append((time.perf_counter() - began_s) * 1000)
            [command] = commands([f"{edge.host}/photos/{number}.jpg"], edge, 1)
            began_s = time.perf_counter()
            connected.sendall(command)
            if not connected.recv(65536).startswith(b"HTTP/1.1 200"):
                raise NotMeasured("Varnish refused a raw command")
            raw_ms.append((time.perf_counter() - began_s) * 1000)
            tick()
    over_ms = percentile(completed_ms, 0.5) - percentile(raw_ms, 0.5)
    detail = f"{percentile(completed_ms, 0.5):.2f} ms, p99 {percentile(completed_ms, 0.99):.2f} ms; raw {percentile(raw_ms, 0.5):.2f} ms"
    samples = {"ours": completed_ms, "raw": raw_ms}
    return Figure("Varnish: POST to Completed, one purge at a time, p50", over_ms, "ms more", "the raw purge", at_most(3), detail, samples)


# What a slow origin's fetches come to while others are purged


async def _kept(scale: Scale, edge: VarnishEdge, agent: Followed) -> Figure:
    done, fetches = asyncio.Event(), 10 * scale.objects
    purging = asyncio.create_task(_purge_on(agent, edge, done))
    kept = sum(await asyncio.gather(*(asyncio.to_thread(_kept_one, edge, begin, fetches) for begin in range(_SLOW_READERS))))
    done.set()
    purged = await purging
    what = f"Varnish: fetches of {ORIGIN_S * 1000:.0f} ms stored at {UNRELATED_PER_S} unrelated purges/s"
    return Figure(what, kept / fetches, "of all", "", at_least(0.95), f"{kept} of {fetches}, {purged} purges")


def _kept_one(edge: VarnishEdge, begin: int, fetches: int) -> int:
    """Ask for each path twice; count those of which the second is a hit."""
    kept = 0
    with closing(http.client.HTTPConnection(edge.host)) as connection:
        for number in range(begin, fetches, _SLOW_READERS):
            for _ in range(2):
                connection.request("GET", f"/slow/{number}")
                answer = connection.getresponse()
                answer.read()
            kept += CACHE.is_hit(answer.headers)
    return kept


async def _purge_on(agent: Followed, edge: VarnishEdge, done: asyncio.Event) -> int:
    began_s, purged = time.monotonic(), 0
    while not done.is_set():
        due = int((time.monotonic() - began_s) * UNRELATED_PER_S)
        if due > purged:
            await agent.purge([Selector(Kind.URL, f"{edge.host}/slow/other/{number}") for number in range(purged, due)])
        purged = max(purged, due)
        await asyncio.sleep(1 / UNRELATED_PER_S)
    return purged


@asynccontextmanager
async def _slow_origin() -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /slow"):
                await asyncio.sleep(ORIGIN_S)
                writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nContent-Length: 2\r\n\r\nok")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
