"""Readers without a client library, over a kill -9 and over a stop: an event stream, a long poll and a webhook that is due to be sent again.

Nothing but what the HTTP standard and the HTML standard's ``EventSource`` do: come back after an error, with the id of the last event.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.machine import KEY, Machine, machine
from support.origin import running_origin
from support.receiver import Receiver, Told, running_receiver
from support.sse import Sent, aevents
from support.waiting import wait_for

AGAIN_S = 0.05
CONFIG = "[webhooks]\nallow_private = true\n"


class Reader:
    """An ``EventSource``: comes back with the last id for as long as it is not told to stay away (204)."""

    def __init__(self, client: httpx.AsyncClient, path: str, last: str = "") -> None:
        self._client = client
        self._path = path
        self.last = last
        self.connections = 0
        self.heard: list[Sent] = []
        self.changed = asyncio.Event()

    async def read(self) -> None:
        again = True
        while again:
            again = await self._once()
            await asyncio.sleep(AGAIN_S)

    async def _once(self) -> bool:
        try:
            headers = {"Last-Event-ID": self.last} if self.last else {}
            async with self._client.stream("GET", self._path, headers=headers) as response:
                self.connections += response.status_code == 200
                async for event in aevents(response):
                    self.last = event.id or self.last
                    if event.name:
                        self.heard.append(event)
                        self.changed.set()
                return response.status_code != 204
        except httpx.TransportError:
            return True

    async def until(self, name: str, purge: str) -> None:
        async with asyncio.timeout(60):
            while not any((event.name, event.data.get("id")) == (name, purge) for event in self.heard):
                await self.changed.wait()
                self.changed.clear()


async def ask(client: httpx.AsyncClient, method: str, path: str, body: object = None) -> Any:
    """Until it is answered: an error of the connection and 503 mean that the service is away, or has just come."""
    async with asyncio.timeout(60):
        while True:
            try:
                response = await client.request(method, path, json=body)
                if response.status_code != 503:
                    return response.raise_for_status().json()
            except httpx.TransportError:
                pass
            await asyncio.sleep(AGAIN_S)


async def _long_poll(client: httpx.AsyncClient, purge: str) -> tuple[str, int]:
    """The state at the end, and how many times was asked."""
    asked, state = 0, ""
    while state != "completed":
        asked += 1
        state = (await ask(client, "GET", f"/v1/purges/{purge}?wait=60s"))["state"]
    return state, asked


async def _story(data: Path, origin: str, receiver: Receiver, how: str) -> None:
    async with machine(data, origin, CONFIG) as here, _client(here) as client:
        webhook = await ask(client, "POST", "/v1/webhooks", {"url": receiver.url, "events": ["purge.completed"]})
        receiver.answers = [500]  # the first attempt fails: it is due again in 5 s, over the restart
        told = await _purge(here, client, "told")
        everything = Reader(client, "/v1/events", "0-0")
        listening = asyncio.create_task(everything.read())
        await everything.until("completed", told)
        (failed, *_) = await asyncio.to_thread(receiver.wait, 1)
        with here.frozen(here.edge_processes()[1]):
            pending = await _purge(here, client, "pending")
            one = Reader(client, f"/v1/purges/{pending}/events")
            resuming = [asyncio.create_task(one.read()), asyncio.create_task(_long_poll(client, pending))]
            await one.until("progress", pending)
            await everything.until("accepted", pending)
            before = everything.last
            if how == "kill":
                here.kill()
        if how == "stop":
            assert await asyncio.to_thread(here.stop) == 0
        here.start()
        await here.ready()
        after = await _purge(here, client, "after")
        async with asyncio.timeout(60):
            await asyncio.gather(*resuming)  # they end by themselves; the stream with 204: there is nothing more
        await everything.until("completed", after)
        listening.cancel()
        _each_once(everything, one, [told, pending, after])
        await _only_with_the_id(here, client, before, pending)
        await asyncio.to_thread(_sent_again, receiver, failed, webhook["secret"])


async def _purge(here: Machine, client: httpx.AsyncClient, name: str) -> str:
    return str((await ask(client, "POST", "/v1/purges", {"urls": [f"http://{here.edge}/{name}"]}))["id"])


def _each_once(everything: Reader, one: Reader, purges: list[str]) -> None:
    heard = [(event.name, event.data["id"]) for event in everything.heard if event.id]
    assert sorted(heard) == sorted((name, purge) for purge in purges for name in ("accepted", "completed"))
    assert everything.connections >= 2
    states = [event.id for event in one.heard]
    assert len(set(states)) == len(states)
    assert [event.name for event in one.heard].index("completed") == len(states) - 1


async def _only_with_the_id(here: Machine, client: httpx.AsyncClient, before: str, pending: str) -> None:
    """The twin: who comes back without the id hears only of what is to come."""
    without, with_it = Reader(client, "/v1/events"), Reader(client, "/v1/events", before)
    reading = [asyncio.create_task(reader.read()) for reader in (without, with_it)]
    async with asyncio.timeout(60):
        while not without.last:  # noqa: ASYNC110 - what changes it has no event
            await asyncio.sleep(AGAIN_S)
    last = await _purge(here, client, "last")
    await asyncio.gather(*(reader.until("completed", last) for reader in (without, with_it)))
    for task in reading:
        task.cancel()
    assert pending not in {event.data.get("id") for event in without.heard}
    assert ("completed", pending) in {(event.name, event.data.get("id")) for event in with_it.heard}


def _sent_again(receiver: Receiver, failed: Told, secret: str) -> None:
    again = wait_for(lambda: [told for told in list(receiver.told) if told.id == failed.id][1:], "what failed is sent again")
    assert [each.body for each in again] == [failed.body]
    again[0].verify(secret)


def _client(here: Machine) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://{here.api}", auth=(KEY, ""), timeout=httpx.Timeout(70, connect=5))


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_nothing_is_lost_over_a_restart(tmp_path: Path, how: str) -> None:
    """Some 8 s, of which 5 are the webhook's own delay."""
    with running_origin() as origin, running_receiver() as receiver:
        asyncio.run(_story(tmp_path, origin.url, receiver, how))
