"""Traffic Server with what we ship beside the same without it: hits; how fast purges get there; a prefix among 100 k objects.

python -m bench.trafficserver [--quick]: run by itself until it has a row in ``python -m bench``.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from agezero.core.purge import Purge
from agezero.core.selector import Kind, Selector
from bench import wrk

CONNECTIONS = 32
OBJECT = "/z/photos/2026/summer/cat.jpg"
FOLDERS = 100
_HIT = re.compile(r"\[[^\]]*c[HR]")


def is_hit(edge: Any, target: str) -> bool:
    """What Traffic Server says of its cache, on a connection of its own."""
    connection = http.client.HTTPConnection(edge.address)
    connection.request("GET", target)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return bool(_HIT.search(answer.headers.get("Via", "")))


def hits(sides: dict[str, Any], rounds: int, seconds: int) -> str:
    """In turn, so that a noisy machine troubles all."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for edge in sides.values():
        assert [is_hit(edge, OBJECT) for _ in range(2)][-1]
    for _ in range(rounds):
        for name, edge in sides.items():
            rates[name].append(wrk.load(edge.url + OBJECT, CONNECTIONS, seconds))
    first, *_, last = rates.values()
    pairs = sorted(one / other for one, other in zip(first, last, strict=True))
    told = ", ".join(f"{name} {median(values):,.0f}" for name, values in rates.items())
    return f"hits/s: {told}; ratio {median(pairs):.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f})"


def purges(edge: Any, count: int, batch: int) -> float:
    """URLs per second, in batches as an agent has them, each applied, confirmed and saved before the next."""

    async def drive() -> float:
        began_s = time.perf_counter()
        for first in range(0, count, batch):
            seqs = range(edge.slots.watermark + 1, edge.slots.watermark + 1 + batch)
            await edge.driver.apply([Purge(seq, Selector(Kind.URL, f"{edge.host}/albums/{first}/{seq}.jpg")) for seq in seqs])
            edge.slots.save(seqs[-1], "log")
        return time.perf_counter() - began_s

    took_s: float = edge.call(drive())
    return count / took_s


def stock_purges(edge: Any, count: int) -> float:
    """Per second by Traffic Server's own PURGE, pipelined over 4 connections: what a client without our table can do."""

    async def one(first: int) -> None:
        reader, writer = await asyncio.open_connection(*edge.address.split(":"))
        requests = [f"PURGE /albums/{first}/{number}.jpg HTTP/1.1\r\nHost: {edge.host}\r\n\r\n" for number in range(count // 4)]
        for begin in range(0, len(requests), 50):
            part = requests[begin : begin + 50]
            writer.write("".join(part).encode())
            for _ in part:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"Content-Length: (\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
        writer.close()

    async def drive() -> float:
        began_s = time.perf_counter()
        await asyncio.gather(*map(one, range(4)))
        return time.perf_counter() - began_s

    return count / asyncio.run(drive())


def prefix(edge: Any, objects: int) -> str:
    """One folder of a hundred, until it is confirmed and a request misses."""
    edge.purge("/none/*")  # from now on slots of folders are looked up, some of which other purges have touched
    connection = http.client.HTTPConnection(edge.address)
    for number in range(objects):
        connection.request("GET", f"/z/{number % FOLDERS}/{number}.jpg")
        connection.getresponse().read()
    took_ms = []
    for folder in range(10):
        assert is_hit(edge, f"/z/{folder}/{folder}.jpg")
        began_s = time.perf_counter()
        edge.purge(f"/z/{folder}/*")
        took_ms.append((time.perf_counter() - began_s) * 1000)
        assert not is_hit(edge, f"/z/{folder}/{folder}.jpg")
    return f"prefix purge of 1 % of {objects:,} objects: {median(took_ms):.2f} ms"


def main(quick: bool) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from bench.edges import plain
    from support.caches.trafficserver import running_trafficserver

    rounds, seconds = (3, 2) if quick else (8, 3)
    with tempfile.TemporaryDirectory() as folder, plain(Path(folder, "origin")) as origin:
        url = f"http://{origin.origin}"
        own: dict[str, Any] = {"threads": 2, "slots": 2**18, "disk": "1G", "records": "CONFIG proxy.config.cache.min_average_object_size INT 2000"}
        with (
            running_trafficserver(url, Path(folder, "ours"), **own) as ours,
            running_trafficserver(url, Path(folder, "generation"), without=["generation"], **own) as generation,
            running_trafficserver(url, Path(folder, "bare"), opened=False, without=["plugins"], **own) as bare,
        ):
            sides = {"with": ours, "by generation alone": generation, "without": bare}
            print(hits(sides, rounds, seconds), flush=True)
            batches, single, stock = purges(ours, 20_000, 100), purges(ours, 2_000, 1), stock_purges(bare, 4_000)
            print(f"purges/s of URLs: {batches:,.0f} in batches of 100, {single:,.0f} one by one; its own PURGE {stock:,.0f}", flush=True)
            print("after 22 k purges of URLs,", hits(sides, rounds, seconds), flush=True)
            print(prefix(ours, 5_000 if quick else 100_000), flush=True)
            print("with prefixes gated,", hits(sides, rounds, seconds), flush=True)


if __name__ == "__main__":
    main("--quick" in sys.argv)
