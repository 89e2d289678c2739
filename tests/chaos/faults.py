"""What befalls the machine: one fault after the other, sometimes one within another."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

from support.machine import Machine, signal_all

LEASE_S = 1.0
MARGIN_S = 0.3
CONFIG = f"[lease]\nlease_s = {LEASE_S}\nmargin_s = {MARGIN_S}\n"

_QUIET_S = (0.1, 1.5)
_WITHIN_PART = 0.2
_IMPATIENT_PART = 0.3
_DRIVER_TIMEOUT_S = 10.0
_LONG_PART = 0.05
_START_S = 30.0
_POLL_S = 0.05
_FULL_AT_BYTES = (1, 4096, 65_536)


class Faults:
    """``kinds``: which; ``long``: some freezes outlast even the agent's patience with its edge."""

    def __init__(self, machine: Machine, chance: random.Random, kinds: Sequence[str] | None = None, *, long: bool = False) -> None:
        self._machine = machine
        self._chance = chance
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {name: kind for name, kind in self._all().items() if kinds is None or name in kinds}
        self._long = long
        self._within = False
        self._may_refuse = 0
        self.counts: Counter[str] = Counter()

    async def run(self, until_s: float) -> None:
        """Until that time of the event loop; the machine may be in any state then but frozen or full."""
        clock = asyncio.get_running_loop().time
        while clock() < until_s:
            await asyncio.sleep(self._chance.uniform(*_QUIET_S))
            await self._one()
            await self._after_a_start_on_a_full_disk()
            if not self._machine.up:
                raise AssertionError(f"the service ended by itself with {self._machine.process.returncode}:\n{self._machine.output[-3000:]}")

    def _all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "service killed": self._kill_service,
            "edge killed": self._kill_edge,
            "service frozen": self._freeze_service,
            "edge frozen": self._freeze_edge,
            "disk full": self._fill_disk,
        }

    async def _one(self) -> None:
        name = self._chance.choice(list(self._kinds))
        self.counts[name] += 1
        await self._kinds[name]()

    async def _pass(self, time_s: float) -> None:
        """Time passes; or something else goes wrong meanwhile."""
        if self._within or self._chance.random() > _WITHIN_PART:
            return await asyncio.sleep(time_s)
        self._within = True
        try:
            await asyncio.gather(asyncio.sleep(time_s), self._one())
        finally:
            self._within = False

    def _outlast_lease_s(self) -> float:
        if self._long and self._chance.random() < _LONG_PART:
            return _DRIVER_TIMEOUT_S + self._chance.uniform(0.5, 2)
        return LEASE_S + MARGIN_S + self._chance.uniform(0.1, 1)

    async def _kill_service(self) -> None:
        self._machine.kill()
        await self._pass(self._chance.choice([0, self._chance.uniform(0, LEASE_S), self._outlast_lease_s()]))
        if not self._machine.up:
            self._machine.start()
        if self._chance.random() < _IMPATIENT_PART:  # the next fault may meet it while it starts
            await asyncio.sleep(self._chance.uniform(0, 0.5))
        else:
            await self._machine.ready()

    async def _kill_edge(self) -> None:
        masters, workers = self._machine.edge_processes()
        one = [self._chance.choice(workers)] if workers else []
        signal_all(self._chance.choice([masters, workers, one, masters + workers]), signal.SIGKILL)

    async def _freeze_service(self) -> None:
        with self._machine.frozen([self._machine.process.pid]):
            await self._pass(self._outlast_lease_s())

    async def _freeze_edge(self) -> None:
        masters, workers = self._machine.edge_processes()
        one = [self._chance.choice(workers)] if workers else []
        with self._machine.frozen(self._chance.choice([masters + workers, one])):
            await self._pass(self._outlast_lease_s())

    async def _fill_disk(self) -> None:
        if not await self._machine.is_ready():
            self._may_refuse = self._machine.process.pid
        with self._machine.disk_full(self._chance.choice(_FULL_AT_BYTES)):
            await self._pass(self._chance.uniform(0.3, 2))

    async def _after_a_start_on_a_full_disk(self) -> None:
        """The one process that was starting may have refused to, at once or in a moment; who was ready may never end because of a full disk."""
        pid, self._may_refuse = self._may_refuse, 0
        if pid != self._machine.process.pid:
            return
        async with asyncio.timeout(_START_S):
            while self._machine.up and not await self._machine.is_ready():  # noqa: ASYNC110 (another process cannot set an event here)
                await asyncio.sleep(_POLL_S)
        if not self._machine.up:
            self.counts["start refused"] += 1
            self._machine.start()
