"""Visitors and API clients of a fleet: each request goes to some edge, or some control node. Whatever is answered goes into one history."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator

from chaos.fleet.scene import Edge, Scene
from support.fleet import ENDPOINT, KEY
from support.history import History, Poll, Purge, Read
from support.stamped import Stamp
from support.traffic import PURGE
from support.wire import Broken, Wire

PATIENCE_S = 6.0


class FleetTraffic:
    """What :class:`chaos.clients.Clients` asks for. No method raises where the fleet is in trouble: the answer is None then."""

    def __init__(self, scene: Scene, history: History, chance: random.Random) -> None:
        key = base64.b64encode(f"{KEY}:".encode()).decode()
        headers = {"authorization": f"Basic {key}", "content-type": "application/json"}
        self._apis = [Wire(node.address, headers, PATIENCE_S) for node in scene.nodes]
        self._edges = scene.edges
        self._history = history
        self._chance = chance

    async def read(self, path: str, variant: str = "-") -> tuple[Stamp, Read] | None:
        """A complete 200 of some edge."""
        return await self.read_at(self._chance.choice(self._edges), path, variant)

    async def read_at(self, edge: Edge, path: str, variant: str = "-") -> tuple[Stamp, Read] | None:
        sent_s = time.monotonic()
        try:
            answer = await edge.ask(path, variant)
        except Broken:
            return None
        if answer.status != 200:
            self._history.counts["edges' errors"] += 1
            return None
        stamp = Stamp.of(answer.body)
        assert stamp.variant == variant, f"asked {edge.name} for variant {variant!r} of {path}, got {stamp}"
        read = Read(path, sent_s, stamp.fetched_s, f"{edge.name}: {_told(answer.headers)}")
        self._history.read(read)
        return stamp, read

    async def purge(self, selector: str) -> Purge | None:
        """The purge, if it was answered 201."""
        sent_s = time.monotonic()
        try:
            answer = await self._api().request("POST", PURGE, body=json.dumps({"url": f"{ENDPOINT}{selector}"}).encode())
        except Broken:
            self._history.counts["unanswered"] += 1
            return None
        if answer.status != 201:
            assert answer.status in {429, 503}, answer
            self._history.counts["refused"] += 1
            return None
        purge = Purge(json.loads(answer.body)["requestId"], selector, sent_s)
        self._history.accepted(purge)
        return purge

    async def poll(self, request_id: str) -> bool | None:
        """Is it `Completed`, says some node?"""
        sent_s = time.monotonic()
        try:
            answer = await self._api().request("GET", f"{PURGE}/{request_id}")
        except Broken:
            return None
        if answer.status in {429, 503}:
            return None
        assert answer.status in {200, 400}, answer
        status = json.loads(answer.body)["status"] if answer.status == 200 else "unknown"
        self._history.polled(Poll(request_id, sent_s, time.monotonic(), status))
        return bool(status == "Completed")

    async def aclose(self) -> None:
        for api in self._apis:
            await api.aclose()

    def _api(self) -> Wire:
        return self._chance.choice(self._apis)


def _told(headers: dict[str, str]) -> str:
    """Varnish tells a hit by the second number in X-Varnish."""
    if "cache-status" in headers:
        return headers["cache-status"]
    return "varnish; hit" if len(headers.get("x-varnish", "").split()) == 2 else "varnish; fwd=miss"


@contextlib.asynccontextmanager
async def fleet_traffic(scene: Scene, history: History, chance: random.Random) -> AsyncIterator[FleetTraffic]:
    here = FleetTraffic(scene, history, chance)
    try:
        yield here
    finally:
        await here.aclose()


async def healed(history: History, within_s: float) -> None:
    """Everything that was accepted so far must complete, with the clients going on."""
    accepted = set(history.pending)
    try:
        async with asyncio.timeout(within_s):
            while accepted & history.pending.keys():  # noqa: ASYNC110 (another process cannot set an event here)
                await asyncio.sleep(0.02)
    except TimeoutError:
        history.healed(accepted)
