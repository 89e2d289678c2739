"""Many requests for one URL at a time: one fetch where its answer can be shared, no waiting for each other where it cannot."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection

import pytest

from support.edge import Edge, is_hit, running_edge, status
from support.scripted import Asked, Gate, Reply, ScriptedOrigin

HERD = 6
PATIENCE_S = 20
"""Far below the time for which a request waits for another's fetch, far above what a herd needs that does not wait."""


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running_edge(origin.url, tmp_path_factory.mktemp("edge"), lock_timeout_s=120) as running:
        yield running


@contextmanager
def herd(edge: Edge, target: str) -> Iterator[list[HTTPConnection]]:
    """All have asked, and nobody has read an answer. nginx (one process here) has seen each of them before it answers a later request."""
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(HTTPConnection(*edge.settings.address, timeout=60))) for _ in range(HERD)]
        for connection in connections:
            connection.request("GET", target)
            edge.get("/later")
        yield connections


def hang_up() -> Reply:
    raise ConnectionAbortedError


PRIVATE = Reply(headers={"Cache-Control": "private"})
USELESS: dict[str, Callable[[], Reply]] = {
    "private": lambda: PRIVATE,
    "Set-Cookie": lambda: Reply(headers={"Cache-Control": "max-age=60", "Set-Cookie": "a=b"}),
    "an error": lambda: Reply(503, headers={}),
    "no answer": hang_up,
}


@pytest.mark.parametrize("name", USELESS)
def test_who_asks_for_what_is_not_stored_does_not_wait(edge: Edge, origin: ScriptedOrigin, name: str) -> None:
    """All are at the origin at the same time."""
    target, meeting = f"/useless/{abs(hash(name))}", threading.Barrier(HERD)
    origin.answer(target, lambda _: USELESS[name]())
    first = edge.get(target)

    def meet(_: Asked) -> Reply:
        meeting.wait(PATIENCE_S)
        return USELESS[name]()

    origin.answer(target, meet)
    with herd(edge, target) as answers:
        assert {answer.getresponse().status for answer in answers} == {first.status_code}
    assert not meeting.broken


def test_nor_for_a_lock_that_is_held(edge: Edge, origin: ScriptedOrigin) -> None:
    """Another spelling of the host has the same object and the same lock, but nothing is known of it."""
    gate = Gate()
    origin.answer("/held", PRIVATE)
    edge.get("/held", Host="held.example.com")
    origin.answer("/held", Reply(headers=PRIVATE.headers, before_head=gate))
    with closing(HTTPConnection(*edge.settings.address, timeout=60)) as holder:
        holder.request("GET", "/held", headers={"Host": "HELD.example.com"})
        assert gate.reached.wait(30)
        origin.answer("/held", PRIVATE)
        assert status(edge.get("/held", Host="held.example.com")) == "fwd=miss; detail=uncacheable; fwd-status=200"
        gate.open.set()
        assert holder.getresponse().status == 200


@pytest.mark.parametrize("name", ["private", "an error"])
def test_nor_do_those_who_came_before_that_was_known(edge: Edge, origin: ScriptedOrigin, name: str) -> None:
    """They wait while the first answer is on its way, and all of them go on once it turns out to be of no use to them."""
    target, gate, meeting = f"/surprise/{abs(hash(name))}", Gate(), threading.Barrier(HERD - 1)

    def answer(_: Asked) -> Reply:
        if origin.count(target) == 1:
            gate.pass_through()
        else:
            meeting.wait(PATIENCE_S)
        return USELESS[name]()

    origin.answer(target, answer)
    with herd(edge, target) as answers:
        assert gate.reached.wait(30)
        assert origin.count(target) == 1
        gate.open.set()
        statuses = [str(answer.getresponse().headers["Cache-Status"]) for answer in answers]
    assert not meeting.broken
    assert sum("detail=uncacheable" in told for told in statuses) == HERD - 1


def test_what_is_stored_is_hit_all_the_same(edge: Edge, origin: ScriptedOrigin) -> None:
    """One variant is not for the cache; the others are served from it, the more so when the origin is down."""

    def answer(asked: Asked) -> Reply:
        sharing = "private" if asked.headers["Cookie"] else "max-age=60"
        return Reply(headers={"Cache-Control": sharing, "Vary": "Cookie"}, body=b"v1")

    origin.answer("/mixed", answer)
    edge.get("/mixed")
    assert status(edge.get("/mixed", Cookie="a=b")) == "fwd=miss; fwd-status=200"
    assert is_hit(edge.get("/mixed"))
    origin.answer("/mixed", Reply(503, headers={}))
    assert edge.get("/mixed", Cookie="a=b").status_code == 503
    assert is_hit(edge.get("/mixed"))


def test_what_becomes_cacheable_is_stored_at_once_and_fetched_once_again(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.answer("/becomes", PRIVATE)
    edge.get("/becomes")
    origin.answer("/becomes", Reply())
    assert status(edge.get("/becomes")) == "fwd=miss; fwd-status=200; stored"
    assert is_hit(edge.get("/becomes"))
    edge.purge("/becomes")
    gate = Gate()
    origin.answer("/becomes", Reply(before_head=gate))
    with herd(edge, "/becomes") as answers:
        assert gate.reached.wait(30)
        gate.open.set()
        assert {answer.getresponse().status for answer in answers} == {200}
    assert origin.count("/becomes") == 3
