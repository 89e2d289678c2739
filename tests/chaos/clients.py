"""Visitors, purgers and watchers: all that the service gets to see of the world."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Protocol

from support.history import Purge, Read
from support.stamped import HANGS_UP, Stamp, StampedOrigin

FOLDERS = tuple(f"/chaos/{i}/" for i in range(6))
PATHS = tuple(f"{folder}{j}.bin" for folder in FOLDERS for j in range(8))
VARIANTS = ("a", "b")
VISITORS, PURGERS, WATCHERS = 4, 3, 4

_PREFIX_PART = 0.1
_BROKEN_PART = 0.01
_SLOW_PART = 0.08
_SLOW_MAX_S = 0.6
_VISIT_PAUSE_MAX_S = 0.01
_PURGE_PAUSE_MAX_S = 0.1
_READERS_MAX = 300
_TROUBLE_PAUSE_S = 0.02
_OLD_PART = 0.05


class Traffic(Protocol):
    """The way to a machine, or to a fleet. No method raises where that is in trouble."""

    async def read(self, path: str, variant: str = "-") -> tuple[Stamp, Read] | None: ...

    async def purge(self, selector: str) -> Purge | None: ...

    async def poll(self, request_id: str) -> bool | None: ...


class Clients:
    """All of them, in ``group``."""

    def __init__(self, traffic: Traffic, origin: StampedOrigin, chance: random.Random, group: asyncio.TaskGroup) -> None:
        self._traffic = traffic
        self._origin = origin
        self._group = group
        self._chance = chance
        self._purged: deque[Purge] = deque()
        self._old: deque[str] = deque(maxlen=10_000)
        self._readers = 0

    def start(self) -> list[asyncio.Task[None]]:
        """They go on until cancelled."""
        kinds = [self._visit] * VISITORS + [self._purge] * PURGERS + [self._watch] * WATCHERS
        return [self._group.create_task(kind()) for kind in kinds]

    async def read_all(self) -> None:
        """Every path in every variant, once."""
        for path in PATHS:
            for variant in VARIANTS:
                await self._traffic.read(path, variant)

    async def _visit(self) -> None:
        while True:
            answer = await self._traffic.read(self._chance.choice(PATHS), self._chance.choice(VARIANTS))
            await asyncio.sleep(self._chance.uniform(0, _VISIT_PAUSE_MAX_S) if answer else _TROUBLE_PAUSE_S)

    async def _purge(self) -> None:
        """The content changes, and the purge follows."""
        while True:
            prefix = self._chance.random() < _PREFIX_PART
            selector = self._chance.choice(FOLDERS) + "*" if prefix else self._chance.choice(PATHS)
            for path in _named(selector):
                self._origin.versions[path] += 1
            purge = await self._traffic.purge(selector)
            if purge:
                self._purged.append(purge)
            await asyncio.sleep(self._chance.uniform(0, _PURGE_PAUSE_MAX_S) if purge else _TROUBLE_PAUSE_S)

    async def _watch(self) -> None:
        """Poll, and have read at once what has just been completed: that is when an old answer is likeliest."""
        while True:
            if self._old and self._chance.random() < _OLD_PART:
                await self._traffic.poll(self._chance.choice(self._old))
            if not self._purged:
                await asyncio.sleep(_TROUBLE_PAUSE_S)
                continue
            purge = self._purged.popleft()
            completed = await self._traffic.poll(purge.request_id)
            if completed:
                self._old.append(purge.request_id)
                self._read_named(purge.selector)
            else:
                self._purged.append(purge)
                await asyncio.sleep(_TROUBLE_PAUSE_S if completed is None else self._chance.uniform(0, _TROUBLE_PAUSE_S))

    def _read_named(self, selector: str) -> None:
        """Nobody waits for these: an edge that is frozen gets them all at once when it goes on."""
        named = _named(selector)
        for path in self._chance.sample(named, min(3, len(named))):
            if self._readers < _READERS_MAX:
                self._group.create_task(self._read_one(path))

    async def _read_one(self, path: str) -> None:
        self._readers += 1
        await self._traffic.read(path, self._chance.choice(VARIANTS))
        self._readers -= 1


def pace_of(chance: random.Random) -> tuple[float, float]:
    """Now and then the origin hangs up, or is slow: before the headers, or within the body."""
    draw = chance.random()
    if draw < _BROKEN_PART:
        return HANGS_UP
    if draw > _SLOW_PART:
        return 0.0, 0.0
    slow_s = chance.uniform(0, _SLOW_MAX_S)
    return (slow_s, 0.0) if chance.random() < 0.5 else (0.0, slow_s)


def _named(selector: str) -> list[str]:
    return [path for path in PATHS if path == selector or (selector.endswith("*") and path.startswith(selector[:-1]))]
