"""How long a purge of a prefix takes until the edge has confirmed it, beside the same with 100 times as many objects cached.

Before each an object under the prefix is asked for and must be a hit, after it the same must be a miss: what is timed does happen.
"""

from __future__ import annotations

import asyncio
import http.client
import time
from pathlib import Path

from agezero.core.selector import Kind, Selector
from bench.edges import Edge, edge, plain
from bench.harness import Figure, NotMeasured, Scale, Tick, at_most, percentile, ratio

TIMES = 100
_FOLDERS = 20


def parts(scale: Scale) -> int:
    return 2 * scale.prefixes


def measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    return asyncio.run(_measure(scale, folder, tick))


async def _measure(scale: Scale, folder: Path, tick: Tick) -> list[Figure]:
    with plain(folder / "plain") as peer:
        async with edge(folder / "few", peer.origin) as few, edge(folder / "many", peer.origin) as many:
            sides = {"few": _Side(few, scale.objects), "many": _Side(many, scale.objects * TIMES)}
            for side in sides.values():
                await asyncio.to_thread(side.fill)
            samples: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(scale.prefixes):
                for name in sides if number % 2 else reversed(list(sides)):
                    samples[name].append(await sides[name].purge(number))
                    tick()
    measured = percentile(samples["many"], 0.5) / percentile(samples["few"], 0.5)
    detail = ", ".join(f"{sides[name].objects:,} objects {percentile(times, 0.5):.2f} ms" for name, times in samples.items())
    detail += f"; median of the pairs {ratio(samples, 'many', 'few'):.2f}"
    return [
        Figure("prefix purge applied at the edge", measured, "×", f"the same with {TIMES} × as many objects cached", at_most(1.2), detail, samples)
    ]


class _Side:
    """One edge with ``objects`` stored in a few folders."""

    def __init__(self, edge: Edge, objects: int) -> None:
        self.objects = objects
        self._edge = edge
        self._client = http.client.HTTPConnection(edge.address)

    def fill(self) -> None:
        for number in range(self.objects):
            self._status(f"/{number % _FOLDERS}/{number}.jpg")

    async def purge(self, number: int) -> float:
        """Milliseconds until one folder's purge is confirmed."""
        folder = number % min(_FOLDERS, self.objects)
        path = f"/{folder}/{folder}.jpg"
        self._expect(path, "hit")
        began_s = time.perf_counter()
        await self._edge.apply([Selector(Kind.PREFIX, f"{self._edge.address}/{folder}/")])
        ended_s = time.perf_counter()
        self._expect(path, "fwd=miss")
        return (ended_s - began_s) * 1000

    def _expect(self, path: str, outcome: str) -> None:
        if outcome not in (found := self._status(path)):
            raise NotMeasured(f"{path} should be a {outcome}, but is: {found}")

    def _status(self, path: str) -> str:
        self._client.request("GET", path)
        answer = self._client.getresponse()
        answer.read()
        return answer.headers.get("Cache-Status", "")
