"""Events: in order, from any point on, also after a restart; and no reader costs more than its connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agezero.feed import Event, Feed, Position, parse_position
from agezero.http.metrics import HttpMetrics
from agezero.http.native import streams
from agezero.http.native.streams import Stream, sse
from agezero.keys import Permission
from support.api import ENDPOINT, Api, running_api
from support.sse import events, until
from support.waiting import wait_for

URL = f"{ENDPOINT}/cat.jpg"


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    yield server
    server.within(server.edge.open.set)


def post(api: Api, *urls: str) -> str:
    return str(api.client.post("/v1/purges", json={"urls": list(urls) or [URL]}).raise_for_status().json()["id"])


def completed(api: Api, purge_id: str) -> str:
    assert api.client.get(f"/v1/purges/{purge_id}?wait=60s").json()["state"] == "completed"
    return purge_id


def resumed(api: Api, last: str, until_name: str, purge_id: str) -> list[tuple[str, str]]:
    with api.client.stream("GET", "/v1/events", headers={"Last-Event-ID": last}) as response:
        return [(event.name, event.data["id"]) for event in until(events(response), until_name, purge_id) if event.name != "edge"]


def test_a_reader_hears_of_each_purge_twice_accepted_then_completed(api: Api) -> None:
    with api.client.stream("GET", "/v1/events") as response:
        stream = events(response)
        assert next(stream).data["name"] == "edge", "the edges as they are come first"
        first, second = post(api), post(api, URL, URL + "2")
        seen = [(event.name, event.data["id"]) for event in until(stream, "completed", second) if event.name != "edge"]
    assert sorted(seen) == sorted((name, purge_id) for name in ("accepted", "completed") for purge_id in (first, second))
    for purge_id in (first, second):
        assert seen.index(("accepted", purge_id)) < seen.index(("completed", purge_id))


def test_after_every_single_event_it_can_be_gone_on_without_a_gap_or_a_repetition(api: Api) -> None:
    position = api.within(lambda: str(Position(api.log.head, api.native.journal.progress.completed)))
    last = [completed(api, post(api, *(f"{URL}?{n}" for n in range(each)))) for each in (1, 3, 2)][-1]
    with api.client.stream("GET", "/v1/events", headers={"Last-Event-ID": position}) as response:
        seen = [event for event in until(events(response), "completed", last) if event.id]
    told = [(event.name, event.data["id"]) for event in seen]
    assert len(set(told)) == len(told) == 6
    for number, event in enumerate(seen[:-1]):
        assert resumed(api, event.id, "completed", last) == told[number + 1 :]


def test_a_restart_takes_nothing_from_a_reader_that_comes_back(tmp_path: Path) -> None:
    with running_api(data=tmp_path) as api:
        heard = completed(api, post(api))
        with api.client.stream("GET", "/v1/events", headers={"Last-Event-ID": "0-0"}) as response:
            last = until(events(response), "completed", heard)[-1].id
            api.within(api.edge.open.clear)
            unheard = post(api, URL, URL + "2")
        api.within(api.edge.open.set)
        completed(api, unheard)
    with running_api(data=tmp_path) as api:
        newest = completed(api, post(api))
        assert resumed(api, last, "completed", newest) == [
            ("accepted", unheard),
            ("accepted", newest),
            ("completed", unheard),
            ("completed", newest),
        ]


def test_what_retention_removed_is_said_to_be_missed(tmp_path: Path) -> None:
    with running_api(data=tmp_path) as api:
        completed(api, post(api, *(f"{URL}?{n}" for n in range(5))))
        api.within(lambda: setattr(api.log, "floor", 5))
        with api.client.stream("GET", "/v1/events", headers={"Last-Event-ID": "2-0"}) as response:
            first = next(events(response))
            assert (first.id, first.name) == ("5-5", "missed")


def test_the_events_of_one_purge_end_with_its_completion(api: Api) -> None:
    api.within(api.edge.open.clear)
    purge_id = post(api)
    with api.client.stream("GET", f"/v1/purges/{purge_id}/events") as response:
        stream = events(response)
        first = next(stream)
        assert (first.name, first.data["state"], first.data["edges"][0]["state"]) == ("progress", "pending", "pending")
        api.within(api.edge.open.set)
        *_, last = stream
        assert (last.name, last.data["state"], last.data["edges"][0]["state"]) == ("completed", "completed", "confirmed")
    again = api.client.get(f"/v1/purges/{purge_id}/events", headers={"Last-Event-ID": first.id})
    assert [event.name for event in events(again)] == ["completed"]
    assert api.client.get(f"/v1/purges/{purge_id}/events", headers={"Last-Event-ID": last.id}).status_code == 204


def test_a_bound_key_hears_of_its_own_endpoint_only(api: Api) -> None:
    key = api.keys.create("bound", Permission.WRITE, [f"{ENDPOINT}/mine"], None)
    with httpx.Client(base_url=api.url, auth=(key, "")) as mine, mine.stream("GET", "/v1/events") as response:
        stream = events(response)
        next(stream)
        completed(api, post(api))
        own = completed(api, post(api, f"{ENDPOINT}/mine/a"))
        told = [(event.name, event.data["id"]) for event in until(stream, "completed", own) if event.name != "edge"]
    assert told == [("accepted", own), ("completed", own)]


def test_a_stream_ends_with_its_key(api: Api) -> None:
    made = api.keys.make("for a while", Permission.READ)
    with httpx.Client(base_url=api.url, auth=(made.text, "")) as reader, reader.stream("GET", "/v1/events") as response:
        stream = events(response)
        next(stream)
        api.keys.make("another", Permission.READ)
        before = completed(api, post(api))
        until(stream, "completed", before)
        api.keys.revoke(made.key.id, 0)
        completed(api, post(api))
        assert not list(stream), "nothing that happened since is told"
        assert reader.get("/v1/events").status_code == 403


def test_a_stream_ends_when_its_key_expires(api: Api) -> None:
    made = api.keys.make("for a while", Permission.READ)
    with httpx.Client(base_url=api.url, auth=(made.text, "")) as reader, reader.stream("GET", "/v1/events") as response:
        stream = events(response)
        next(stream)
        api.keys.expire(made.key.id, 1)
        completed(api, post(api))
        assert not list(stream)


def test_an_edge_that_changes_is_told(api: Api) -> None:
    with api.client.stream("GET", "/v1/events") as response:
        stream = events(response)
        next(stream)
        api.edge.broken = "on fire"
        try:
            purge_id = post(api)
            assert next(event.data["trouble"] for event in stream if event.name == "edge" and event.data["trouble"]) == "on fire"
        finally:
            api.edge.broken = ""
    completed(api, purge_id)


@pytest.mark.parametrize("last", ["x", "1", "1-", "-1-1", "1-1-1", "9" * 16 + "-1"])
def test_an_id_that_is_none(api: Api, last: str) -> None:
    assert api.client.get("/v1/events", headers={"Last-Event-ID": last}).status_code == 400


def test_a_position_beyond_the_log_is_brought_back_to_it(api: Api) -> None:
    """As after a restore from a backup: better to repeat than to be silent for ever."""
    with api.client.stream("GET", "/v1/events", headers={"Last-Event-ID": "999999999-999999999"}) as response:
        stream = events(response)
        next(stream)
        purge_id = completed(api, post(api))
        assert until(stream, "completed", purge_id)


def test_a_reader_that_leaves_is_forgotten(api: Api) -> None:
    wait_for(lambda: Stream.open_now == 0, "the readers of other tests are gone")
    with api.client.stream("GET", "/v1/events") as response:
        reading = events(response)  # held: httpx hangs up when it is forgotten
        next(reading)
        assert Stream.open_now == 1
    wait_for(lambda: Stream.open_now == 0, "the reader is forgotten")


def test_one_stream_too_many_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "STREAMS_MAX", 0)
    response = api.client.get("/v1/events")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


def test_a_slow_reader_is_dropped_and_makes_nothing_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SEND_S", 0.05)
    made = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield b"x"

    async def never(*_: object) -> Any:
        await asyncio.Event().wait()

    async def story() -> None:
        async with asyncio.timeout(30):
            await Stream("test", never, None, None, HttpMetrics())._pass_on(endless(), never, never)  # type: ignore[arg-type]

    asyncio.run(story())
    assert made == 1, "the next chunk is made when the last one was taken"


def test_a_heartbeat_keeps_the_position() -> None:
    with running_api() as api:
        feed = Feed(api.native.journal, lambda _: True, None, 0.01)

        async def beats() -> list[Event]:
            found: list[Event] = []
            async for event in feed.events():
                found.append(event)
                if len(found) == 4:
                    break
            return found

        first, edge, *later = asyncio.run_coroutine_threadsafe(beats(), api.loop).result(30)
        assert edge.name == "edge"
        assert [(event.id, event.name) for event in (first, *later)] == [("0-0", "")] * 3


def test_text_of_events() -> None:
    assert sse(Event("1-2", "accepted", b"{}")) == b"id: 1-2\nevent: accepted\ndata: {}\n\n"
    assert sse(Event("1-2")) == b"id: 1-2\n\n"
    assert sse(Event("")) == b":\n\n"
    assert parse_position("12-3") == Position(12, 3)
