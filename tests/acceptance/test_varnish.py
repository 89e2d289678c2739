"""What is particular to Varnish; what it has in common with the other caches is in tests/contract/test_edges.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.ports import DriverFailed
from support.caches.varnish import VarnishEdge, running_varnish
from support.programs import require
from support.scripted import Asked, Gate, Reply, ScriptedOrigin, scripted_origin
from support.waiting import wait_for

FRESH: dict[str, str | list[str]] = {"Cache-Control": "max-age=3600"}
WHOLE = """
sub vcl_backend_response { set beresp.do_stream = false; var.global_set("test_reached", bereq.url); }
sub vcl_recv { if (req.url == "/reached") { return (synth(200, "at" + var.global_get("test_reached"))); } }
"""
DEVICE = "sub vcl_hash { hash_data(req.http.X-Device); }"


@pytest.fixture(scope="module")
def origin() -> Iterator[ScriptedOrigin]:
    with scripted_origin() as running:
        yield running


@pytest.fixture
def edge(origin: ScriptedOrigin, tmp_path: Path) -> Iterator[VarnishEdge]:
    with started(origin, tmp_path) as running:
        yield running


def started(origin: ScriptedOrigin, data: Path, **options: Any) -> Any:
    require("varnishd")
    return running_varnish(origin.url, data, **options)


def fetched(edge: VarnishEdge, origin: ScriptedOrigin, target: str, **headers: str) -> bool:
    before = len(origin.asked)
    edge.get(target, **headers)
    return len(origin.asked) > before


def stored(edge: VarnishEdge, origin: ScriptedOrigin, *targets: str, **headers: str) -> None:
    for target in targets:
        edge.get(target, **headers)
        assert not fetched(edge, origin, target, **headers), f"{target} is not cached"


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


def test_settling_spares_what_was_fetched_since(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    origin.answer("/t/a", Reply(headers={**FRESH, "xkey": "blue"}))

    def spared(what: str | Selector) -> bool:
        stored(edge, origin, "/t/a")
        edge.purge(what)
        stored(edge, origin, "/t/a")
        wait_for(lambda: not edge.position.unsettled or None, "all is settled")
        return not fetched(edge, origin, "/t/a")

    for what in ("/t/a", "/t/*", EVERYTHING, Selector(Kind.TAG, "blue")):
        assert any(spared(what) for _ in range(5)), "a busy machine may widen one, not all"


def test_more_at_once_than_there_are_places(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    names = [f"/places/{number}/" for number in range(40)]
    stored(edge, origin, *names)
    edge.purge(*(name + "*" for name in names))
    assert all(fetched(edge, origin, name) for name in names)
    wait_for(lambda: not edge.position.unsettled or None, "all is settled")
    stored(edge, origin, *names)


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


# Names


def test_what_the_users_vcl_adds_to_the_hash_is_purged_too(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, after=DEVICE) as edge:
        for device in ("phone", "desk"):
            stored(edge, origin, "/d", X_Device=device)
        edge.purge("/d")
        assert all(fetched(edge, origin, "/d", X_Device=device) for device in ("phone", "desk"))


def test_what_the_users_vcl_makes_of_a_url_is_purged_by_what_was_asked(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, after='sub vcl_recv { set req.url = "/moved" + req.url; }') as edge:
        stored(edge, origin, "/m")
        edge.purge("/m")
        assert fetched(edge, origin, "/m")


SPELLINGS = ["/q%C3%A9?x=%2F%7C", "/q%C3%a9?x=%2f%7c"]


@pytest.mark.parametrize("what", ["/q%C3%A9?x=%2F%7C", "/q%C3%A9?*", "/q%C3*"])
def test_spellings_are_stored_and_purged(edge: VarnishEdge, origin: ScriptedOrigin, what: str) -> None:
    stored(edge, origin, *SPELLINGS, "/z")
    edge.purge(what)
    assert all(fetched(edge, origin, spelling) for spelling in SPELLINGS)
    assert not fetched(edge, origin, "/z")


def spelled_otherwise(edge: VarnishEdge, origin: ScriptedOrigin) -> str:
    origin.answer("/%7Ea", Reply(body=b"old"))
    edge.get("/%7Ea")
    origin.answer("/%7Ea", Reply(body=b"new"))
    edge.purge("/~a")
    return edge.get("/%7Ea").text


def test_a_spelling_that_cannot_be_purged_is_not_stored(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    assert spelled_otherwise(edge, origin) == "new"
    for target in ("/%61", "/a/../b", "/a/.", "/%2e"):
        assert all(edge.raw(target, edge.host).startswith(b"HTTP/1.1 200") for _ in range(2))
        assert origin.count(target) == 2


def test_without_that_rule_the_other_spelling_is_served(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, without=("spelling",)) as edge:
        assert spelled_otherwise(edge, origin) == "old"


def test_the_host_in_any_spelling(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    for host in ("Example.COM", "example.com.", "example.com:80", "example.com.:0443"):
        edge.raw("/h", host)
    assert origin.count("/h") == 1
    edge.purge(Selector(Kind.URL, "example.com/h"))
    edge.raw("/h", "example.com")
    assert origin.count("/h") == 2


HOSTILE = ['/i/" && obj.status == 200', "/i/.*", "/i/a|b", "/i/a)(b", "/i/\\x", "/i/$^", "/i/a\tb && x"]


@pytest.mark.parametrize("prefix", HOSTILE)
def test_a_prefix_is_never_part_of_the_bans_syntax(edge: VarnishEdge, origin: ScriptedOrigin, prefix: str) -> None:
    stored(edge, origin, "/i/other", "/i/a", "/i/b")
    edge.purge(Selector(Kind.PREFIX, edge.host + prefix))
    assert not any(fetched(edge, origin, target) for target in ("/i/other", "/i/a", "/i/b"))


@pytest.mark.parametrize("tag", ["a b", "a,b", "a\r\nAgeZero-Boot: x", "", "é", "a" * 300, '"'])
def test_a_tag_that_can_be_no_key_purges_everything(edge: VarnishEdge, origin: ScriptedOrigin, tag: str) -> None:
    stored(edge, origin, "/untagged")
    edge.purge(Selector(Kind.TAG, tag))
    assert fetched(edge, origin, "/untagged")


@pytest.mark.parametrize("name", ["Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups"])
def test_tags_are_taken_from_each_header(edge: VarnishEdge, origin: ScriptedOrigin, name: str) -> None:
    origin.answer(f"/{name}", Reply(headers={**FRESH, name: ['"red", "sale"' if name == "Cache-Groups" else "red sale", "blue"]}))
    for tag in ("sale", "blue"):
        stored(edge, origin, f"/{name}")
        edge.purge(Selector(Kind.TAG, tag))
        assert fetched(edge, origin, f"/{name}")


@pytest.mark.parametrize("what", ["/soft", Selector(Kind.TAG, "mild")])
def test_soft_is_stale_while_revalidated(edge: VarnishEdge, origin: ScriptedOrigin, what: str | Selector) -> None:
    origin.answer("/soft", Reply(headers={**FRESH, "xkey": "mild"}, body=b"old"))
    stored(edge, origin, "/soft")
    origin.answer("/soft", Reply(headers={**FRESH, "xkey": "mild"}, body=b"new"))
    edge.purge(what, soft=True)
    assert edge.get("/soft").text == "old"
    wait_for(lambda: edge.get("/soft").text == "new", "it was fetched anew")


# Restarts and reloads


def test_a_child_that_died_is_fenced_and_noticed(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    boot = edge.call(edge.driver.probe())
    stored(edge, origin, "/k")
    edge.kill_child()
    assert fetched(edge, origin, "/k")
    assert fetched(edge, origin, "/k"), "no lease outlives the child"
    for work in (edge.driver.apply([Purge(1, EVERYTHING)]), edge.driver.fence()):
        with pytest.raises(DriverFailed, match="restarted"):
            edge.call(work)
    assert edge.call(edge.driver.probe()) != boot
    edge.open()
    stored(edge, origin, "/k")


def test_a_reload_keeps_lease_and_counters(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    boot, gate = edge.call(edge.driver.probe()), Gate()
    stored(edge, origin, "/r/kept")
    origin.answer("/r/slow", Reply(body=b"old", before_head=gate))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(edge.get, "/r/slow")
        assert gate.reached.wait(30)
        edge.reload(after='sub vcl_deliver { set resp.http.X-New = "1"; }')
        assert not fetched(edge, origin, "/r/kept")
        assert edge.get("/r/kept").headers["X-New"] == "1"
        origin.answer("/r/slow", Reply(body=b"new"))
        edge.purge("/r/slow")
        gate.open.set()
        waiting.result()
    assert edge.get("/r/slow").text == "new"
    assert edge.call(edge.driver.probe()) == boot


def test_without_our_vcl_for_a_while_it_begins_anew(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    """Another VCL neither counts nor notes; what it stored is not served by ours."""
    boot = edge.call(edge.driver.probe())
    edge.reload(include=False)
    with pytest.raises(DriverFailed, match="include agezero"):
        edge.call(edge.driver.probe())
    edge.get("/foreign")
    for name in edge.loaded()[:-1]:
        edge.admin("vcl.discard", name)
    edge.reload()
    assert edge.call(edge.driver.probe()) != boot
    assert fetched(edge, origin, "/foreign")
    edge.open()
    stored(edge, origin, "/foreign")


def test_an_agent_that_was_replaced_is_refused(edge: VarnishEdge) -> None:
    headers = {"AgeZero-Boot": edge.call(edge.driver.probe()), "AgeZero-Ban": "obj.status != 0", "AgeZero-1": "e"}
    old = edge.position.token
    assert edge.command("/ban", {**headers, "AgeZero-Token": str(old + 1)}).startswith("HTTP/1.1 200")
    assert edge.command("/ban", {**headers, "AgeZero-Token": str(old)}).startswith("HTTP/1.1 409")
    with pytest.raises(DriverFailed, match="newer agent"):
        edge.purge("/x")
    with pytest.raises(DriverFailed, match="newer agent"):
        edge.call(edge.driver.probe())


def test_a_new_agent_keeps_the_cache_only_if_all_was_settled(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    wait_for(lambda: not edge.position.unsettled or None, "all is settled")
    stored(edge, origin, "/kept")
    edge.open()
    assert not fetched(edge, origin, "/kept")
    edge.position.unsettled = True
    edge.open()
    assert fetched(edge, origin, "/kept")


# The control path


def test_nobody_outside_commands(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    stored(edge, origin, "/safe")
    headers = {"AgeZero-Token": "9999", "AgeZero-Boot": edge.call(edge.driver.probe()), "AgeZero-Ban": "obj.status != 0", "AgeZero-1": "e"}
    for method in ("AGEZERO", "GET", "PURGE", "BAN"):
        for path in ("/state", "/ban", "/lease", "/safe"):
            answer = edge.client.request(method, edge.url + path, headers={**headers, "AgeZero-Until": "0"})
            assert "AgeZero" not in answer.headers
    assert not fetched(edge, origin, "/safe")
    assert oct(edge.control.stat().st_mode & 0o777) == "0o600"


def test_a_client_cannot_speak_for_the_vcl(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    edge.fence()
    spoof = {"AgeZero_Until": "99999999999", "AgeZero_Url": "x/y", "AgeZero_Off": "", "AgeZero_Gone": "1"}
    assert all(fetched(edge, origin, "/spoof", **spoof) for _ in range(2))
    edge.lease()
    stored(edge, origin, "/spoof", **spoof)
    asked = origin.last("/spoof")
    assert not [name for name in asked.headers if name.lower().startswith("agezero")], "nothing of ours leaks to the origin"
    assert not [name for name in edge.get("/spoof").headers if name.startswith("agezero")]
    edge.purge("/spoof")
    assert fetched(edge, origin, "/spoof")


def test_a_200_of_the_origin_proves_nothing(origin: ScriptedOrigin, tmp_path: Path) -> None:
    require("varnishd")
    edge = VarnishEdge(origin.url, tmp_path, include=False)
    try:
        edge.start()
        with pytest.raises(DriverFailed, match=r"hint: include agezero\.vcl"):
            edge.call(edge.driver.probe())
    finally:
        edge.close()


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
