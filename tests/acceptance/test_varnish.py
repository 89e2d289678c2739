"""Varnish brings back nothing that was being fetched when it was purged, and spoils few other fetches. See tests/contract/test_edges.py too."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.edges.varnish import names
from agezero.edges.varnish.settling import ROUNDED_S, Command, Unsettled, settling
from support.caches.asking import fetched, stored
from support.caches.varnish import VarnishEdge, running_varnish
from support.programs import require
from support.scripted import Asked, Gate, Reply, ScriptedOrigin
from support.waiting import wait_for

FRESH: dict[str, str | list[str]] = {"Cache-Control": "max-age=3600"}
WHOLE = """
sub vcl_backend_response { set beresp.do_stream = false; var.global_set("test_reached", bereq.url); }
sub vcl_recv { if (req.url == "/reached") { return (synth(200, "at" + var.global_get("test_reached"))); } }
"""


@pytest.fixture
def edge(origin: ScriptedOrigin, tmp_path: Path) -> Iterator[VarnishEdge]:
    with started(origin, tmp_path) as running:
        yield running


def started(origin: ScriptedOrigin, data: Path, **options: Any) -> Any:
    require("varnishd")
    return running_varnish(origin.url, data, **options)


# The race


def served_after_a_background_fetch(edge: VarnishEdge, origin: ScriptedOrigin, target: str) -> str:
    """A stale object is served while it's fetched anew; the purge comes during that fetch, which has read the old content."""
    gate = Gate()
    origin.answer(target, Reply(headers={"Cache-Control": "max-age=1"}, body=b"old"))
    edge.get(target)
    wait_for(lambda: int(edge.get(target).headers["Age"]) >= 1 or None, "the object is about to become stale")
    origin.answer(target, Reply(body=b"old", before_head=gate))
    wait_for(lambda: edge.get(target).text and gate.reached.is_set(), "a background fetch")
    origin.answer(target, Reply(body=b"new"))
    edge.purge(target)
    with ThreadPoolExecutor(1) as pool:
        during = pool.submit(edge.get, target)
        gate.open.set()
        return during.result().text


def test_a_background_fetch_does_not_bring_the_old_object_back(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    assert served_after_a_background_fetch(edge, origin, "/bg") == "new"
    assert edge.get("/bg").text == "new"


def test_a_fetch_tried_again_stays_spoilt(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """return(retry) is a new fetch of the same request; that the purge came before it doesn't make it storable, but what comes next is stored."""
    again = "sub vcl_backend_response { if (beresp.status == 503 && bereq.retries == 0) { return (retry); } }"
    gate = Gate()
    answers = iter([Reply(status=503, headers={}, before_head=gate), *[Reply(body=b"new")] * 5])
    origin.answer("/retried", lambda _: next(answers))
    with started(origin, tmp_path, after=again) as edge, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(edge.get, "/retried")
        assert gate.reached.wait(30)
        edge.purge("/retried")
        gate.open.set()
        assert waiting.result().text == "new"
        stored(edge, origin, "/retried")


def test_unrelated_purges_leave_a_fetch_cacheable(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    gate = Gate()
    origin.answer("/site/slow", Reply(before_head=gate))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(edge.get, "/site/slow")
        assert gate.reached.wait(30)
        edge.purge(*(f"/site/other{number}" for number in range(40)), "/elsewhere/*")
        gate.open.set()
        waiting.result()
    assert not fetched(edge, origin, "/site/slow")


def after_the_last_comparison(edge: VarnishEdge, origin: ScriptedOrigin, target: str, what: str | Selector, **headers: str) -> None:
    """Purge between the comparison of the counters and the storing. do_stream off makes that moment as long as the body."""
    gate = Gate()
    origin.answer(target, Reply(headers={**FRESH, **headers}, body=b"old!" * 1000, in_body=gate))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(edge.get, target)
        assert gate.reached.wait(30)
        wait_for(lambda: target in edge.get("/reached").text or None, "the comparison is over")
        origin.answer(target, Reply(headers={**FRESH, **headers}, body=b"new!"))
        edge.purge(what)
        gate.open.set()
        waiting.result()


WHATS: dict[str, str | Selector] = {"url": "/w/o", "prefix": "/w/*", "everything": EVERYTHING, "tag": Selector(Kind.TAG, "blue")}


@pytest.mark.parametrize("what", WHATS)
def test_what_was_being_stored_is_not_served(origin: ScriptedOrigin, tmp_path: Path, what: str) -> None:
    with started(origin, tmp_path, after=WHOLE, settles=False) as edge:
        after_the_last_comparison(edge, origin, "/w/o", WHATS[what], xkey="red blue")
        assert edge.get("/w/o").text == "new!"


def test_without_the_second_look_what_was_being_stored_is_served(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, after=WHOLE, without=("young",), settles=False) as edge:
        after_the_last_comparison(edge, origin, "/w/o", "/w/o")
        assert edge.get("/w/o").text.startswith("old!")


@pytest.mark.parametrize("what", WHATS)
def test_what_was_being_stored_is_removed_for_good(origin: ScriptedOrigin, tmp_path: Path, what: str) -> None:
    """Once it's no longer young nobody looks again; so it must be gone by then."""
    with started(origin, tmp_path, after=WHOLE, without=("young",)) as edge:
        after_the_last_comparison(edge, origin, "/w/o", WHATS[what], xkey="red blue")
        wait_for(lambda: not edge.position.unsettled or None, "all is settled")
        assert edge.get("/w/o").text == "new!"


def clock_s(edge: VarnishEdge) -> float:
    """As Varnish tells it."""
    said = re.search(r"AgeZero-Now: ([0-9.]+)", edge.command("/state", {}))
    assert said
    return float(said[1])


def test_settling_reaches_what_was_fetched_a_moment_before(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    """One in six was spared, as Varnish rounds the time that it tells, and the age in a ban."""

    def spared(target: str) -> bool:
        edge.raw(target, edge.host)
        purged_s = clock_s(edge)
        ban = Command("/ban", {"AgeZero-Ban": names.ban(Selector(Kind.PREFIX, edge.host + target))})
        for command in settling([Unsettled(ban, since=purged_s)]):
            edge.call(edge.driver._do(command.path, command.headers))  # type: ignore[attr-defined]
        return not fetched(edge, origin, target)

    assert not any(spared(f"/moment/{number}/") for number in range(60))


def test_settling_spares_what_was_fetched_since(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    origin.answer("/t/a", Reply(headers={**FRESH, "xkey": "blue"}))

    def spared(what: str | Selector) -> bool:
        stored(edge, origin, "/t/a")
        edge.purge(what)
        purged_s = clock_s(edge)
        wait_for(lambda: clock_s(edge) > purged_s + 2 * ROUNDED_S or None, "the clock goes on")
        stored(edge, origin, "/t/a")
        wait_for(lambda: not edge.position.unsettled or None, "all is settled")
        return not fetched(edge, origin, "/t/a")

    for what in ("/t/a", "/t/*", EVERYTHING, Selector(Kind.TAG, "blue")):
        assert any(spared(what) for _ in range(5)), "a busy machine may widen one, not all"


def test_more_at_once_than_there_are_places(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    folders = [f"/places/{number}/" for number in range(40)]
    stored(edge, origin, *folders)
    edge.purge(*(folder + "*" for folder in folders))
    assert all(fetched(edge, origin, folder) for folder in folders)
    wait_for(lambda: not edge.position.unsettled or None, "all is settled")
    stored(edge, origin, *folders)


def asks_with_validators(edge: VarnishEdge, origin: ScriptedOrigin, target: str) -> bool:
    origin.answer(target, Reply(headers={"Cache-Control": "max-age=1", "ETag": '"1"'}))
    edge.get(target)
    wait_for(lambda: (edge.get(target) and origin.count(target) >= 2) or None, "it was fetched again in the background")
    return any(asked.headers.get("If-None-Match") for asked in origin.asked if asked.target == target)


def test_no_validator_of_a_dying_object_is_sent(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    assert not asks_with_validators(edge, origin, "/dying/1")


def test_without_that_safeguard_validators_are_sent(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, without=("validators",)) as edge:
        assert asks_with_validators(edge, origin, "/dying/2")


# Bans


def test_many_purges_of_prefixes_leave_few_bans(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    stored(edge, origin, "/b/19999/x")
    for start in range(0, 20_000, 1000):
        edge.purge(*(f"/b/{number}/*" for number in range(start, start + 1000)))
    assert fetched(edge, origin, "/b/19999/x")
    assert edge.stat("MAIN.bans") - edge.stat("MAIN.bans_completed") < 3000
    stored(edge, origin, "/b/19999/x")


def test_asked_by_a_herd_it_fetches_once(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    gate, arrived = Gate(), threading.Barrier(9)
    origin.answer("/herd", Reply(before_head=gate))

    def one() -> int:
        arrived.wait()
        return httpx.get(edge.url + "/herd", timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(one) for _ in range(8)]
        arrived.wait()
        assert gate.reached.wait(30)
        wait_for(lambda: edge.stat("MAIN.busy_sleep") >= 7 or None, "the others wait")
        gate.open.set()
        assert {each.result() for each in waiting} == {200}
    assert origin.count("/herd") == 1


def test_two_variants_in_flight(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    gate = Gate()

    def vary(asked: Asked) -> Reply:
        return Reply(headers={**FRESH, "Vary": "X-A, X-B"}, body=b"old", before_head=gate if asked.headers["X-A"] != "0" else None)

    origin.answer("/vary", vary)
    edge.get("/vary", X_A="0", X_B="0")
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(edge.get, "/vary", X_A=a, X_B=b) for a in "12" for b in "12"]
        assert gate.reached.wait(30)
        origin.answer("/vary", Reply(headers={**FRESH, "Vary": "X-A, X-B"}, body=b"new"))
        edge.purge("/vary")
        gate.open.set()
        for each in waiting:
            each.result()
    assert {edge.get("/vary", X_A=a, X_B=b).text for a in "012" for b in "012"} == {"new"}
