"""kill -9 and SIGSTOP of the service and of its nginx: nothing accepted is lost, nothing purged comes back, and what was stored is still used."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from chaos.clients import Clients, pace_of
from chaos.faults import CONFIG, LEASE_S, MARGIN_S
from chaos.run import heal
from support.history import History
from support.machine import Machine, machine, signal_all
from support.seeds import seed_of
from support.stamped import StampedOrigin, stamped_origin
from support.traffic import Traffic, traffic

KILLS = 50
HEAL_EVERY = 25


async def killed_again_and_again(data: Path, seed: int) -> History:
    chance, pace, history = random.Random(seed), random.Random(seed + 1), History()
    async with stamped_origin(lambda *_: pace_of(pace)) as origin, machine(data, origin.url, CONFIG) as here, traffic(here, history) as client:
        async with asyncio.TaskGroup() as group:
            clients = Clients(client, origin, chance, group).start()
            for count in range(1, KILLS + 1):
                await asyncio.sleep(chance.uniform(0, 0.3))
                here.kill()
                here.start()
                if chance.random() < 0.6:  # else the next one hits it while it starts
                    await here.ready()
                if count % HEAL_EVERY == 0:
                    await heal(here, history)
            for task in clients:
                task.cancel()
        assert "Traceback" not in here.output, here.output
    return history


def test_no_accepted_purge_is_lost(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Minutes: fifty times the service is killed and started again, under load."""
    seed = seed_of(request)
    history = asyncio.run(killed_again_and_again(tmp_path, seed))
    assert not history.violations, f"seed {seed}: {history.violations[0]}"
    assert history.counts["purges"] > 4 * KILLS, history.counts
    assert history.counts["hits"] > 4 * KILLS, history.counts


@dataclass(frozen=True, slots=True)
class Scene:
    """``/kept`` is in the cache. ``/gone`` was in the cache, then it changed at the origin and was purged."""

    here: Machine
    origin: StampedOrigin
    client: Traffic
    history: History

    async def completed(self, selector: str) -> None:
        """The content changes and is purged; returns when that is `Completed`."""
        self.origin.versions[selector] += 1
        purge = await self.client.purge(selector)
        assert purge
        await self.client.completed(purge.request_id)

    async def as_before(self, since_s: float) -> None:
        """The edge serves from its cache again what was stored before ``since_s``, and what was purged stays purged."""
        kept = await self.client.cached("/kept")
        assert kept.fetched_s < since_s, "the objects on the disk must still be used"
        gone = await self.client.read("/gone")
        assert gone
        assert gone[0].version == self.origin.versions["/gone"]
        assert not self.history.violations


@contextlib.asynccontextmanager
async def scene(data: Path) -> AsyncIterator[Scene]:
    history = History()
    async with stamped_origin() as origin, machine(data, origin.url, CONFIG) as here, traffic(here, history) as client:
        await client.cached("/kept")
        await client.cached("/gone")
        this = Scene(here, origin, client, history)
        await this.completed("/gone")
        yield this


def test_while_the_service_is_dead_the_edge_bypasses_its_cache(tmp_path: Path) -> None:
    """Slow: it waits for a lease to end, and for a service to start twice."""

    async def play() -> None:
        async with scene(tmp_path) as this:
            orphans = this.here.edge_processes()
            killed_s = time.monotonic()
            this.here.kill()
            await this.client.fenced("/kept")
            this.origin.versions["/kept"] = 2
            answer = await this.client.read("/kept")
            assert answer
            assert answer[0].version == 2, "an edge without a lease asks the origin"
            assert this.here.edge_processes() == orphans

            this.here.start()
            await this.here.ready()
            await this.as_before(killed_s)
            masters, workers = this.here.edge_processes()
            assert not {*orphans[0], *orphans[1]} & {*masters, *workers}
            assert '"level": "error"' not in this.here.output

    asyncio.run(play())


def test_a_frozen_service_is_as_good_as_dead(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as this:
            frozen_s = time.monotonic()
            with this.here.frozen([this.here.process.pid]):
                await this.client.fenced("/kept")
            await this.as_before(frozen_s)
            await this.completed("/kept")

    asyncio.run(play())


def test_a_call_that_was_given_up_and_arrives_late_does_not_fence_for_ever(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as this:
            late_s = time.monotonic()
            transport = httpx.AsyncHTTPTransport(uds=str(this.here.home / "run" / "control.sock"))
            async with httpx.AsyncClient(transport=transport, base_url="http://edge") as control:
                state = (await control.get("/state")).json()
                assert (await control.post("/load", json={"token": state["token"], "boot": state["boot"]})).status_code == 200
            await this.as_before(late_s)

    asyncio.run(play())


@pytest.mark.parametrize("what", ["master", "workers", "both"])
def test_nginx_killed(tmp_path: Path, what: str) -> None:
    async def play() -> None:
        async with scene(tmp_path) as this:
            masters, workers = this.here.edge_processes()
            killed = {"master": masters, "workers": workers, "both": masters + workers}[what]
            killed_s = time.monotonic()
            signal_all(killed, signal.SIGKILL)
            await this.completed("/other")
            await this.as_before(killed_s)
            masters_now, workers_now = this.here.edge_processes()
            assert len(masters_now) == 1
            assert not set(killed) & {*masters_now, *workers_now}

    asyncio.run(play())


def test_a_frozen_edge_holds_purges_up_no_longer_than_its_lease(tmp_path: Path) -> None:
    async def play() -> None:
        async with scene(tmp_path) as this:
            frozen_s = time.monotonic()
            masters, workers = this.here.edge_processes()
            with this.here.frozen(masters + workers):
                await this.completed("/other")
                assert time.monotonic() - frozen_s < 5 * (LEASE_S + MARGIN_S)
                await this.completed("/gone")
                reads = [asyncio.create_task(this.client.read(path)) for path in ("/other", "/gone") * 8]
                await asyncio.sleep(0)  # they are sent, and wait for an edge that is frozen
            for read in reads:
                answer = await read
                assert answer
                assert answer[0].version == this.origin.versions[answer[1].path]
            await this.as_before(frozen_s)

    asyncio.run(play())
