"""The typed client, sync and async, against the real HTTP side; and its rules without one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import msgspec
import pytest

from agezero.client import (
    AsyncClient,
    Client,
    ClientError,
    Denied,
    NotFound,
    NotTheService,
    Refused,
    Unavailable,
    Unreachable,
    WaitTimeout,
    flows,
)
from agezero.client.flows import Base, EventReader, Pause, Request, Response
from agezero.config import Config, Limits
from agezero.control import EdgeView
from agezero.wire import ProblemDetails, PurgeDetail
from support.api import ENDPOINT, KEY, Api, running_api
from support.ports import free_address

URL = f"{ENDPOINT}/cat.jpg"


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    with running_api() as api:
        yield api


@pytest.fixture
def api(server: Api) -> Iterator[Api]:
    server.purges.fleet = [EdgeView("edge", "leased", 0, 7, 0, ("url", "everything"), "")]
    yield server
    server.within(server.edge.open.set)


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    with Client(api.url, KEY) as it:
        yield it


def test_a_purge_waits_until_it_is_proven(client: Client) -> None:
    purge = client.purge(urls=[URL], tags=["t"], mode="soft", note="why", wait=True)
    assert purge.warnings
    assert purge.status() == purge.wait() == client.status(purge.id)
    assert (purge.status().state, purge.status().note) == ("completed", "why")


@pytest.mark.parametrize("name", ["urls", "prefixes", "tags", "hosts", "assets"])
def test_one_text_is_not_purged_letter_by_letter(client: Client, api: Api, name: str) -> None:
    head = api.log.head
    with pytest.raises(ClientError, match=f"{name} is one text; expected a list") as caught:
        client.purge(**{name: "abc"})  # type: ignore[arg-type]
    assert caught.value.hint == f"write {name}=['abc']"
    assert api.log.head == head


def test_a_dry_run(client: Client, api: Api) -> None:
    head = api.log.head
    purge = client.purge(assets=[URL], dry_run=True, wait=True)
    assert (purge.id, purge.accepted.dry_run, api.log.head) == ("", True, head)


def test_a_wait_that_is_too_long_names_the_edges_that_are_awaited(client: Client, api: Api) -> None:
    api.within(api.edge.open.clear)
    with pytest.raises(WaitTimeout, match=r"still pending after 0\.2 s; awaited: edge \(still applying\)") as caught:
        client.purge(urls=[URL], wait=True, timeout_s=0.2)
    assert caught.value.detail is not None


def test_lists(client: Client) -> None:
    ids = [client.purge(tags=["listed"]).id for _ in range(3)]
    assert [purge.id for purge in client.purges(tag="listed", limit="2")] == ids[::-1]
    assert [row.action for row in client.audit()][:3] == ["purge"] * 3
    assert [edge.name for edge in client.edges()] == ["edge"]
    client.remove_edge("edge")
    assert client.edges() == []


def test_errors_are_typed_and_say_what_to_do(client: Client, api: Api) -> None:
    with pytest.raises(Refused, match=r"urls/0: expected an absolute URL") as caught:
        client.purge(urls=["x"])
    assert (caught.value.status, caught.value.errors[0].where) == (422, "urls/0")
    assert caught.value.hint
    with pytest.raises(Denied):
        client.purge(urls=["https://foreign.example.com/"])
    with pytest.raises(NotFound):
        client.status("0" * 24)
    with pytest.raises(NotFound, match="no edge of this name"):
        client.remove_edge("nobody")
    with pytest.raises(NotFound, match="path does not exist"):
        client.remove_edge("nobody/else")
    with Client(api.url, "private_wrong_wrong_wrong") as stranger, pytest.raises(Denied):
        stranger.edges()
    with pytest.raises(ClientError, match="is not a URL"):
        Client("http://127.0.0.1:port", KEY)
    with Client(f"http://{free_address()}", KEY) as nobody, pytest.raises(Unreachable, match="no answer"):
        nobody.edges()


@pytest.mark.parametrize(
    "url", ["nonsense", "127.0.0.1:8080", "localhost:8080", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "http://[::1", ""]
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_url_that_is_none_is_said_at_once_and_not_waited_for(kind: type, url: str) -> None:
    with pytest.raises(ClientError, match="is not a URL") as caught:
        kind(url, KEY)
    assert not isinstance(caught.value, Unreachable)
    assert "http://127.0.0.1:8080" in caught.value.hint


@pytest.mark.parametrize("key", ["private_\udcff", "private_\u00e9", "private_a\n", "private_a b", "private_a:"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_key_that_can_be_none_is_said_at_once(kind: type, key: str) -> None:
    with pytest.raises(ClientError, match="the private key holds a character that no key has") as caught:
        kind("http://127.0.0.1:8080", key)
    assert key not in str(caught.value)


def test_too_often_for_longer_than_there_is_time() -> None:
    with running_api(Config(endpoints=(ENDPOINT,), limits=Limits(purges_per_s=1))) as api, Client(api.url, KEY, patience_s=0) as client:
        with pytest.raises(Unavailable):
            [client.purge(urls=[URL]).id for _ in range(9)]
        with Client(api.url, KEY) as patient:
            assert [patient.purge(urls=[URL]).id for _ in range(2)]


def test_the_events_of_a_purge_end_with_it(client: Client, api: Api) -> None:
    api.within(api.edge.open.clear)
    purge = client.purge(urls=[URL])
    names: list[str] = []
    for event in client.events(purge_id=purge.id):
        names.append(event.name)
        api.within(api.edge.open.set)
    assert (names[0], names[-1]) == ("progress", "completed")
    with pytest.raises(NotFound):
        next(client.events(purge_id="0" * 24))


def test_async(api: Api) -> None:
    async def story() -> None:
        async with AsyncClient(api.url, KEY) as client:
            purges = await asyncio.gather(*(client.purge(urls=[f"{URL}?{n}"], wait=True) for n in range(10)))
            assert {(await purge.status()).state for purge in purges} == {"completed"}
            assert (await purges[0].wait()).id == purges[0].id
            assert [purge.id async for purge in client.purges(url=f"{URL}?3")] == [purges[3].id]
            assert await anext(row.action async for row in client.audit()) == "purge"
            assert [edge.name for edge in await client.edges()] == ["edge"]
            assert [event.name async for event in client.events(purge_id=purges[0].id)] == ["completed"]
            await client.remove_edge("edge")
            with pytest.raises(NotFound):
                await client.status("x")

    asyncio.run(story())


def _hang_up(listener: socket.socket, answers: list[bytes], seen: list[bytes]) -> None:
    for answer in answers:
        connection, _ = listener.accept()
        with connection:
            seen.append(connection.recv(65536))
            connection.sendall(answer)


def test_a_purge_is_sent_again_after_a_lost_connection_under_the_same_idempotency_key() -> None:
    body = b'{"id":"' + b"0" * 24 + b'","mode":"hard","selectors":[],"warnings":[],"dry_run":false}'
    answers = [b"", b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)]
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = threading.Thread(target=_hang_up, args=(listener, answers, seen))
        peer.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", KEY) as client:
            assert client.purge(urls=[URL]).id == "0" * 24
        peer.join(30)
    keys = [next(line for line in each.split(b"\r\n") if line.lower().startswith(b"idempotency-key")) for each in seen]
    assert len(keys) == 2
    assert keys[0] == keys[1]


@contextlib.contextmanager
def somebody_else(more: bytes = b"") -> Iterator[str]:
    """The URL of a site that answers once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n" + more + b"\r\n<html>"
        peer = threading.Thread(target=_hang_up, args=(listener, [answer], []))
        peer.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        peer.join(30)


def test_somebody_else_answers() -> None:
    with somebody_else() as url, Client(url, KEY) as client, pytest.raises(NotTheService, match="answered 200"):
        client.edges()


def test_a_page_is_no_stream_of_events() -> None:
    async def first(url: str) -> None:
        async with AsyncClient(url, KEY) as client:
            await anext(client.events())

    with somebody_else(b"Content-Type: text/html\r\n") as url, Client(url, KEY) as client, pytest.raises(NotTheService, match="answered 200"):
        next(client.events())
    with somebody_else(b"Content-Type: text/html\r\n") as url, pytest.raises(NotTheService, match="answered 200"):
        asyncio.run(first(url))


def test_an_answer_that_can_not_be_decoded_is_none() -> None:
    async def edges(url: str) -> None:
        async with AsyncClient(url, KEY) as client:
            await client.edges()

    with somebody_else(b"Content-Encoding: gzip\r\n") as url, Client(url, KEY) as client, pytest.raises(Unreachable):
        client.edges()
    with somebody_else(b"Content-Encoding: gzip\r\n") as url, pytest.raises(Unreachable):
        asyncio.run(edges(url))


class _Clock:
    s = 0.0

    def __call__(self) -> float:
        return self.s


def drive(flow: flows.Flow[object], clock: _Clock, answer: Callable[[Request], Response]) -> None:
    """Do what the flow says, pauses by setting the clock on. Raises what the flow raises."""
    step = next(flow)
    while True:
        if isinstance(step, Pause):
            clock.s += step.s
            step = flow.send(None)
        else:
            step = flow.send(answer(step))


def test_a_wait_outlives_a_service_that_is_away() -> None:
    clock, asked = _Clock(), list[Request]()

    def away(request: Request) -> Response:
        asked.append(request)
        return Response(failure="refused")

    with pytest.raises(Unreachable):
        drive(flows.wait(Base("http://api", clock), "0" * 24, 10), clock, away)
    assert len(asked) == 21
    assert clock.s == 10


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_proxy_that_answers_for_a_service_that_is_away_is_waited_with(status: int) -> None:
    clock, asked = _Clock(), list[Request]()
    done = msgspec.json.encode(PurgeDetail("0" * 24, "completed", True, "hard", (), "", "", None, None, None, None, ()))

    def restarting(request: Request) -> Response:
        asked.append(request)
        return Response(status, b"<html>") if len(asked) < 5 else Response(200, done)

    with pytest.raises(StopIteration) as ended:
        drive(flows.wait(Base("http://api", clock), "0" * 24, 10), clock, restarting)
    assert ended.value.value.state == "completed"
    asked.clear()
    with pytest.raises(Unreachable, match=f"a proxy answers {status} in its place"):
        drive(flows.purge(Base("http://api", clock), flows.Wish(["x"]), None, 10), clock, restarting)
    assert len({request.headers["Idempotency-Key"] for request in asked}) == 1
    assert len(asked) == 2


def test_events_go_on_after_a_proxy_has_answered_for_the_service() -> None:
    page = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\nConnection: close\r\n\r\n<html>"
    event = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nevent: edge\ndata: {}\n\n"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        peer = threading.Thread(target=_hang_up, args=(listener, [page, event], []))
        peer.start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", KEY) as client:
            assert next(client.events()).name == "edge"
        peer.join(30)


def test_a_service_is_not_asked_again_at_once_whatever_it_says() -> None:
    clock, asked = _Clock(), 0

    def later(_: Request) -> Response:
        nonlocal asked
        asked += 1
        return Response(503, msgspec.json.encode(ProblemDetails("about:blank", "later", 503)), retry_after_s=0)

    with pytest.raises(Unavailable):
        drive(flows.get(Base("http://api", clock), "/", {}, PurgeDetail, 10), clock, later)
    assert asked < 30


def test_a_wait_asks_for_no_longer_than_is_left() -> None:
    clock, asked = _Clock(), list[str]()
    pending = b'{"id":"%b","state":"pending","retained":true,"mode":"hard","selectors":[],"note":"","key":"","accepted_at":null,' % (b"0" * 24)
    pending += b'"first_edge_at":null,"last_edge_at":null,"completed_at":null,"edges":[]}'

    def slow(request: Request) -> Response:
        asked.append(request.query["wait"])
        clock.s += float(asked[-1][:-1])
        return Response(200, pending)

    with pytest.raises(WaitTimeout):
        drive(flows.wait(Base("http://api", clock), "0" * 24, 31.5), clock, slow)
    assert asked == ["30s", "1s", "0.5s"]


def test_a_wait_tells_what_is_known_and_a_status_that_is_not_known_in_time_is_a_timeout() -> None:
    clock, known = _Clock(), list[PurgeDetail]()
    pending = msgspec.json.encode(PurgeDetail("0" * 24, "pending", True, "hard", (), "", "", None, None, None, None, ()))
    unknown = msgspec.json.encode(ProblemDetails("about:blank", "The status is not known at the moment.", 503, "Waiting for a lease."))

    def answer(request: Request) -> Response:
        clock.s += float(request.query["wait"][:-1])
        return Response(200, pending) if clock.s < 2 else Response(503, unknown, retry_after_s=5)

    with pytest.raises(WaitTimeout, match=r"after 4 s; Waiting for a lease\.") as caught:
        drive(flows.wait(Base("http://api", clock), "0" * 24, 4, known.append), clock, answer)
    assert len(known) == 3
    assert caught.value.detail == known[-1]


def test_lines_of_a_stream() -> None:
    reader = EventReader()
    lines = ["retry: 1000", "", "id: 1-0", "", ":", "", "event: edge", 'data: {"a":', "data: 1}", "", "id: 2-0", "event: accepted", "data: {}", ""]
    found = [event for line in lines if (event := reader.line(line))]
    assert [(event.id, event.name, event.data) for event in found] == [("", "edge", {"a": 1}), ("2-0", "accepted", {})]
    assert reader.last_id == "2-0"
