"""Hits per second from the embedded edge, beside the same nginx with a plain cache key; one serving process each, 32 connections.

The peer for the limit is our own configuration with a plain cache key: what it lacks is what purging costs, and nothing else. Two more are plain
caches without njs, and so without ``Age`` and ``Cache-Status``: one as a handbook has it, one tuned to be as fast as it can be (``edges.TUNED``).
"""

from __future__ import annotations

import asyncio
import http.client
from dataclasses import replace
from functools import partial
from pathlib import Path

from agezero.core.selector import Kind, Selector
from bench import wrk
from bench.edges import TUNED, Edge, Plain, edge, plain, serving_cpu_s
from bench.harness import Figure, Limit, NotMeasured, Scale, Tick, at_least, beside, in_turn, percentile

CONNECTIONS = 32
OBJECT = "/photos/2026/summer/cat.jpg"
PREFIX_EVERY = 10


def parts(scale: Scale) -> int:
    return 6 * scale.rounds


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    return asyncio.run(_measure(scale, folder, tick))


async def _measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    with plain(folder / "plain") as peer, plain(folder / "tuned", TUNED) as tuned:
        async with (
            edge(folder / "0", peer.origin) as empty,
            edge(folder / "urls", peer.origin) as urls,
            edge(folder / "prefixes", peer.origin) as prefixes,
            edge(folder / "keyless", peer.origin, epoch_in_key=False) as keyless,
        ):
            await fill_table(urls, scale.purges_in_table, prefix_every=0)
            await fill_table(prefixes, scale.purges_in_table, prefix_every=PREFIX_EVERY)
            served: dict[str, Plain | Edge] = {
                "handbook": peer,
                "tuned": tuned,
                "no purges": empty,
                "URLs": urls,
                "URLs and prefixes": prefixes,
                "plain key": keyless,
            }
            for ours in (empty, urls, prefixes, keyless):
                await asyncio.to_thread(store, ours.address)
            used_us: dict[str, list[float]] = {name: [] for name in served}
            sides = {name: partial(load, served[name], scale.seconds, used_us[name]) for name in served}
            samples = await asyncio.to_thread(in_turn, sides, scale.rounds, tick)
    return _figures(samples, used_us, f"{scale.purges_in_table // 1000:,} k")


def load(side: Plain | Edge, seconds: float, used_us: list[float]) -> float:
    """Hits per second; what one takes of the processor goes to ``used_us``."""
    began_s = serving_cpu_s(side.master)
    rate = wrk.load(f"http://{side.address}{OBJECT}", CONNECTIONS, seconds)
    used_us.append((serving_cpu_s(side.master) - began_s) * 1e6 / (rate * seconds))
    return rate


def _figures(samples: dict[str, list[float]], used_us: dict[str, list[float]], purges: str) -> list[Figure]:
    same = "the same nginx in the same configuration with a plain cache key"
    tuned, handbook = "a plain nginx without Age and Cache-Status, tuned", "the same as a handbook has it, not tuned"

    def figure(what: str, side: str, under: str, peer: str, limit: Limit | None = None) -> Figure:
        found = beside(f"edge hits/s, {what}", samples, side, under, peer, limit)
        used = {f"{name}, µs of processor a hit": used_us[name] for name in (side, under)}
        told = " against ".join(f"{percentile(values, 0.5):.1f}" for values in used.values())
        return replace(found, detail=f"{found.detail}; {told} µs of processor a hit", samples={**found.samples, **used})

    return [
        figure("no purges", "no purges", "plain key", same, at_least(0.75, 0.85)),
        figure(f"{purges} purges of URLs", "URLs", "plain key", same, at_least(0.75, 0.8)),
        figure(f"{purges} purges, each tenth of a prefix", "URLs and prefixes", "plain key", same, at_least(0.75, 0.8)),
        figure("no purges", "no purges", "tuned", tuned),
        figure(f"{purges} purges of URLs", "URLs", "tuned", tuned),
        figure("no purges", "no purges", "handbook", handbook),
    ]


def store(address: str) -> None:
    """Have the object stored. Raises :class:`NotMeasured` where it then is no hit."""
    connection = http.client.HTTPConnection(address)
    for _ in range(2):
        connection.request("GET", OBJECT)
        answer = connection.getresponse()
        answer.read()
    if "hit" not in (found := answer.headers.get("Cache-Status", "")):
        raise NotMeasured(f"{OBJECT} should be a hit, but is: {found}")


async def fill_table(edge: Edge, purges: int, prefix_every: int) -> None:
    """None of them names the object."""

    def selector(number: int) -> Selector:
        if prefix_every and number % prefix_every == 0:
            return Selector(Kind.PREFIX, f"{edge.address}/albums/{number}/")
        return Selector(Kind.URL, f"{edge.address}/albums/{number}.jpg")

    await edge.apply([selector(number) for number in range(purges)])
