"""The real service is killed or stopped while somebody waits: nobody misses anything, everybody resumes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agezero.client import AsyncClient, Event
from support.machine import KEY, Machine, machine
from support.origin import running_origin


async def _until(fact: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(60):
        while not fact():  # noqa: ASYNC110 - what changes it has no event
            await asyncio.sleep(0.01)
    assert fact(), what


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_restart_in_the_middle_of_a_stream_and_of_a_long_poll(tmp_path: Path, how: str) -> None:
    """Over 10 s beside other tests: a service starts twice, and clients connect again after their pauses."""
    heard: list[Event] = []

    async def listen(here: Machine) -> None:
        async with AsyncClient(f"http://{here.api}", KEY) as reader:
            async for event in reader.events("0-0"):
                heard.append(event)
                if (event.name, event.data.get("note")) == ("completed", "last"):
                    return

    async def story(origin: str) -> None:
        async with machine(tmp_path, origin) as here, AsyncClient(f"http://{here.api}", KEY) as client:
            first = (await client.purge(urls=[f"http://{here.edge}/first"], wait=True)).id
            listening = asyncio.create_task(listen(here))
            await _until(lambda: any(event.name == "completed" for event in heard), "the first purge is heard of")
            _, workers = here.edge_processes()
            with here.frozen(workers):
                pending = await client.purge(urls=[f"http://{here.edge}/second"])
                waiting = asyncio.create_task(pending.wait(60))
                await _until(lambda: any(event.data.get("id") == pending.id for event in heard), "the second is heard of")
                assert (await pending.status()).state == "pending"
                if how == "kill":
                    here.kill()
            if how == "stop":
                assert await asyncio.to_thread(here.stop) == 0
            here.start()
            await here.ready()
            last = await client.purge(urls=[f"http://{here.edge}/third"], note="last", wait=True)
            async with asyncio.timeout(60):
                await listening
                assert (await waiting).state == "completed"
            told = [(event.name, event.data["id"]) for event in heard if event.id]
            assert sorted(told) == sorted((name, purge_id) for purge_id in (first, pending.id, last.id) for name in ("accepted", "completed"))

    with running_origin() as origin:
        asyncio.run(story(origin.url))
