"""What befalls a fleet, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from agezero.jetstream.link import ApiError, LinkFailed
from agezero.jetstream.names import LOG_STREAM
from chaos.fleet.scene import LEASE_S, MARGIN_S, RETENTION, Scene
from support.fleet import Program
from support.history import History
from support.logs import linked
from support.nats import Server

QUIET_S = (0.3, 2.0)
AWAY_S = 30.0
"""How long an edge waits at most, to come back below the floor."""


class Faults:
    """``kinds``: names of faults, None for all."""

    def __init__(self, scene: Scene, history: History, chance: random.Random, kinds: Sequence[str] | None = None) -> None:
        self._scene = scene
        self._history = history
        self._chance = chance
        self._kinds = {name: kind for name, kind in self._all().items() if kinds is None or name in kinds}
        self.counts: Counter[str] = Counter(dict.fromkeys(self._kinds, 0))

    async def run(self, until_s: float) -> None:
        """At least until that time of the event loop: rounds in which each kind comes once. All is put right again on return."""
        clock = asyncio.get_running_loop().time
        while True:
            for name in self._chance.sample(list(self._kinds), len(self._kinds)):
                await asyncio.sleep(self._chance.uniform(*QUIET_S))
                await self._kinds[name]()
                self.counts[name] += 1
            if clock() >= until_s:
                return

    def _all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "leader killed": lambda: self._server_killed(leader=True),
            "follower killed": lambda: self._server_killed(leader=False),
            "quorum lost": self._quorum_lost,
            "agent killed": self._agent_killed,
            "agent paused": self._agent_paused,
            "partition": self._partition,
            "all cut off": self._all_cut_off,
            "node killed": self._node_killed,
            "node paused": self._node_paused,
            "log deleted": self._log_deleted,
            "past the floor": self._past_the_floor,
            "all killed": self._all_killed,
        }

    def _outlast_lease_s(self) -> float:
        return LEASE_S + MARGIN_S + self._chance.uniform(0.2, 1.5)

    async def _server_killed(self, *, leader: bool) -> None:
        name = await asyncio.to_thread(self._scene.servers.leader, LOG_STREAM)
        victim = name if leader else self._chance.choice([server for server in self._scene.servers.all if server is not name])
        victim.kill()
        await asyncio.sleep(self._chance.uniform(0.5, 3))
        victim.start()
        await self._servers_ready()

    async def _quorum_lost(self) -> None:
        """Purges are refused, edges fence; who was answered 201 is held to that by the history."""
        victims = self._chance.sample(self._scene.servers.all, 2)
        for victim in victims:
            victim.kill()
        refused = self._history.counts["refused"]
        fenced = self._history.counts["fenced"]
        await asyncio.sleep(self._outlast_lease_s() + 3)
        assert self._history.counts["refused"] > refused, "without a quorum purges are refused"
        assert self._history.counts["fenced"] > fenced or not self.fences, "without a quorum edges fence"
        for victim in victims:
            victim.start()
        await self._servers_ready()

    fences = True

    async def _agent_killed(self) -> None:
        edge = self._chance.choice(self._scene.edges)
        await edge.kill()
        await asyncio.sleep(self._chance.choice([0, self._chance.uniform(0, LEASE_S), self._outlast_lease_s()]))
        edge.start()

    async def _agent_paused(self) -> None:
        edge = self._chance.choice(self._scene.edges)
        edge.pause()
        try:
            await asyncio.sleep(self._outlast_lease_s())
        finally:
            edge.go_on()

    async def _partition(self) -> None:
        edges = self._chance.sample(self._scene.edges, self._chance.choice([1, 1, 3]))
        for edge in edges:
            edge.proxy.cut()
        await asyncio.sleep(self._chance.choice([self._chance.uniform(0, LEASE_S), self._outlast_lease_s()]))
        for edge in edges:
            edge.proxy.heal()

    async def _all_cut_off(self) -> None:
        """Purges are accepted, and complete once all leases are over."""
        for edge in self._scene.edges:
            edge.proxy.cut()
        await asyncio.sleep(self._outlast_lease_s() + 1)
        for edge in self._scene.edges:
            edge.proxy.heal()

    async def _node_killed(self) -> None:
        """With purges under way: the purgers never rest."""
        node = self._chance.choice(self._scene.nodes)
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(self._chance.uniform(0, 2))
        node.start()

    async def _node_paused(self) -> None:
        node = self._chance.choice(self._scene.nodes)
        node.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(self._outlast_lease_s())
        finally:
            node.signal(signal.SIGCONT)

    async def _log_deleted(self) -> None:
        """Somebody deletes the stream; control nodes make it anew when they start."""
        async with linked(self._scene.servers.urls) as admin:
            with contextlib.suppress(LinkFailed, ApiError):
                await admin.api(f"STREAM.DELETE.{LOG_STREAM}")
        for node in self._scene.nodes:
            await asyncio.to_thread(node.kill)
            node.start()
        await self._scene.ready()

    async def _past_the_floor(self) -> None:
        """An edge is away until what it has to read next is gone."""
        edge = self._chance.choice(self._scene.edges)
        await edge.kill()
        behind = self._history.counts["purges"] + 3 * RETENTION
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(AWAY_S):
                while self._history.counts["purges"] < behind:  # noqa: ASYNC110 (the purgers are other tasks, and nobody tells)
                    await asyncio.sleep(0.1)
        edge.start()

    async def _all_killed(self) -> None:
        everything: list[Server | Program] = [*self._scene.servers.all, *self._scene.nodes]
        for victim in everything:
            await asyncio.to_thread(victim.kill)
        for edge in self._scene.edges:
            await edge.kill()
        for victim in everything:
            victim.start()
        for edge in self._scene.edges:
            edge.start()
        await self._servers_ready()
        await self._scene.ready()

    async def _servers_ready(self) -> None:
        await asyncio.to_thread(self._scene.servers.ready)
