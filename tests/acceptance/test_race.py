"""A purge at any moment of a slow fetch keeps what is being fetched from being served later: the in-flight race.

Every stock cache stores what such a fetch brings, and serves it for its whole life. Here, from the moment in which `Completed` was readable, no
request may be answered with it: not while the fetch is under way, not after it, in no variant, and not from among the herd that waits for it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.history import History
from support.machine import machine
from support.seeds import seed_of
from support.stamped import StampedOrigin, stamped_origin
from support.traffic import Traffic, traffic

TRIALS = 240
AT_ONCE = 24
SLOW_MAX_S = 0.25
HERD = 3
READS_AFTER = 2
VARIANTS = ("a", "b")


@dataclass(frozen=True, slots=True)
class Trial:
    """One URL. The fetch of version 1 takes ``before_s`` until its headers and ``during_s`` within its body."""

    path: str
    before_s: float
    during_s: float
    purge_after_s: float
    vary_known: bool
    """The cache has met another variant before, so that each of ours has its own fetch in flight."""
    selector: str


def trials(seed: int, count: int) -> list[Trial]:
    return [_trial(random.Random(f"{seed}/{number}"), number) for number in range(count)]


def _trial(chance: random.Random, number: int) -> Trial:
    folder = f"/race/{number:04}/"
    slow_s = chance.uniform(0.02, SLOW_MAX_S)
    before_s, during_s = chance.choice([(slow_s, 0.0), (0.0, slow_s), (slow_s / 2, slow_s / 2)])
    selector = chance.choice([folder + "object.bin", folder + "*", folder + "obj*"])
    return Trial(folder + "object.bin", before_s, during_s, chance.uniform(0, slow_s), chance.random() < 0.5, selector)


class Race:
    """Runs trials against one machine; ``old`` collects the old responses to requests sent after `Completed`."""

    def __init__(self, origin: StampedOrigin, client: Traffic) -> None:
        self._origin = origin
        self._client = client
        self._free = asyncio.Semaphore(AT_ONCE)
        self.old: list[str] = []
        self.counts: Counter[str] = Counter()

    async def run(self, trial: Trial) -> None:
        async with self._free:
            if trial.vary_known:
                await self._client.read(trial.path, "other")
            reads = self._origin.fetches[trial.path, 1]
            herd = [asyncio.create_task(self._client.read(trial.path, variant)) for variant in VARIANTS * HERD]
            await self._origin.read(trial.path, 1, reads + (len(VARIANTS) if trial.vary_known else 1))
            self._origin.versions[trial.path] = 2
            await asyncio.sleep(trial.purge_after_s)
            await self._purge(trial)
            await self._read_on(trial, herd)

    async def _purge(self, trial: Trial) -> None:
        purge = await self._client.purge(trial.selector)
        assert purge is not None
        await self._client.completed(purge.request_id)
        self.counts["in flight when Completed"] += self._origin.open[trial.path, 1] > 0

    async def _read_on(self, trial: Trial, herd: Sequence[asyncio.Task[object]]) -> None:
        while not all(early.done() for early in herd):
            await self._read(trial)
        for early in herd:
            assert early.result() is not None, "a request that came before the purge must be answered"
        for _ in range(READS_AFTER):
            await self._read(trial)
        again = await self._read(trial)
        self.counts["cached again"] += again

    async def _read(self, trial: Trial) -> bool:
        """Both variants, one after the other; were both hits?"""
        hits = 0
        for variant in VARIANTS:
            answer = await self._client.read(trial.path, variant)
            assert answer is not None
            stamp, read = answer
            hits += "; hit" in read.told
            self.counts["reads"] += 1
            if stamp.version != 2:
                self.old.append(f"{trial}: {stamp} {read.told}")
        return hits == len(VARIANTS)


async def race(data: Path, seed: int, count: int, without: str = "") -> tuple[Race, History]:
    chosen = {trial.path: trial for trial in trials(seed, count)}

    def pace(path: str, version: int) -> tuple[float, float]:
        trial = chosen.get(path)
        if trial is None or version > 1 or (trial.vary_known and not origin.fetches[path, 1]):
            return 0.0, 0.0
        return trial.before_s, trial.during_s

    history = History()
    async with stamped_origin(pace) as origin, machine(data, origin.url, without=without) as here, traffic(here, history) as client:
        await client.cached("/warm")
        run = Race(origin, client)
        async with asyncio.TaskGroup() as group:
            for trial in chosen.values():
                group.create_task(run.run(trial))
    return run, history


def test_no_old_response_after_completed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Some 10 s: 240 races, each with a slow fetch."""
    seed = seed_of(request)
    run, history = asyncio.run(race(tmp_path, seed, TRIALS))
    assert not run.old, f"seed {seed}: {len(run.old)} of {run.counts['reads']} reads were old, the first: {run.old[0]}"
    assert not history.violations, f"seed {seed}: {history.violations[0]}"
    assert run.counts["in flight when Completed"] > TRIALS / 3, f"too few races were real: {run.counts}"
    assert run.counts["cached again"] > TRIALS * 0.9, f"the cache must cache what is new: {run.counts}"


def test_without_the_epoch_in_the_key_there_are_old_responses(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The twin: what the test above looks for is really there to be found."""
    run, history = asyncio.run(race(tmp_path, seed_of(request), 24, without="epoch_in_key"))
    assert len(run.old) > 24, f"only {len(run.old)} old responses of {run.counts}"
    assert history.violations
