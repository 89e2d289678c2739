"""A user's own nginx with Lua: hits with what we ship beside the same without it; how fast purges get there; a prefix among 100 k objects.

python -m bench.nginx_own [--quick]: run by itself until it has a row in ``python -m bench``.
"""

from __future__ import annotations

import http.client
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


def fetch(edge: Any, target: str) -> str:
    """What nginx says of its cache, on a connection of its own."""
    connection = http.client.HTTPConnection(edge.address)
    connection.request("GET", target)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.headers.get("X-Cache", "")


def hits(ours: Any, bare: Any, rounds: int, seconds: int) -> str:
    """In turn, so that a noisy machine troubles both."""
    rates: dict[str, list[float]] = {"with": [], "without": []}
    for edge in (ours, bare):
        assert [fetch(edge, OBJECT) for _ in range(2)][-1] == "HIT"
    for _ in range(rounds):
        for name, edge in (("with", ours), ("without", bare)):
            rates[name].append(wrk.load(edge.url + OBJECT, CONNECTIONS, seconds))
    pairs = sorted(one / other for one, other in zip(rates["with"], rates["without"], strict=True))
    return (
        f"hits/s {median(rates['with']):,.0f} with, {median(rates['without']):,.0f} without: {median(pairs):.2f} ({pairs[0]:.2f} to {pairs[-1]:.2f})"
    )


def purges(edge: Any, count: int, batch: int) -> str:
    """URLs, in batches as an agent has them, each confirmed before the next."""

    async def drive() -> float:
        began_s = time.perf_counter()
        for first in range(1, count, batch):
            seqs = range(edge.slots.watermark + 1, edge.slots.watermark + 1 + batch)
            await edge.driver.apply([Purge(seq, Selector(Kind.URL, f"{edge.host}/albums/{first}/{seq}.jpg")) for seq in seqs])
            edge.slots.save(seqs[-1], "log")
        return time.perf_counter() - began_s

    took_s: float = edge.call(drive())
    return f"{count / took_s:,.0f} purges/s of URLs applied and saved, in batches of {batch}"


def prefix(edge: Any, objects: int) -> str:
    """One folder of a hundred, until it is confirmed and a request misses."""
    connection = http.client.HTTPConnection(edge.address)
    for number in range(objects):
        connection.request("GET", f"/z/{number % FOLDERS}/{number}.jpg")
        connection.getresponse().read()
    took_ms = []
    for folder in range(10):
        assert fetch(edge, f"/z/{folder}/{folder}.jpg") == "HIT"
        began_s = time.perf_counter()
        edge.purge(f"/z/{folder}/*")
        took_ms.append((time.perf_counter() - began_s) * 1000)
        assert fetch(edge, f"/z/{folder}/{folder}.jpg") == "MISS"
    return f"prefix purge of 1 % of {objects:,} objects: {median(took_ms):.2f} ms"


def main(quick: bool) -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from bench.edges import plain
    from support.caches.nginx_lua import running_nginx_lua

    with tempfile.TemporaryDirectory() as folder, plain(Path(folder, "origin")) as origin:
        own: dict[str, Any] = {"workers": 1, "slots": 2**18}
        with (
            running_nginx_lua(f"http://{origin.origin}", Path(folder, "ours"), **own) as ours,
            running_nginx_lua(f"http://{origin.origin}", Path(folder, "bare"), opened=False, without="include", **own) as bare,
        ):
            print(hits(ours, bare, 3 if quick else 8, 2 if quick else 3))
            print(purges(ours, 20_000, 100), "|", purges(ours, 2_000, 1), flush=True)
            print("after 22 k purges of URLs:", hits(ours, bare, 3 if quick else 8, 2 if quick else 3))
            print(prefix(ours, 5_000 if quick else 100_000), flush=True)
            print("with prefixes gated:", hits(ours, bare, 3 if quick else 8, 2 if quick else 3))


if __name__ == "__main__":
    main("--quick" in sys.argv)
