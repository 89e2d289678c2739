"""A restart, a new VCL or another agent of a Varnish loses no purge, and nobody else may command it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING
from agezero.edges.position import PositionFile
from agezero.edges.varnish.driver import VarnishDriver
from agezero.ports import DriverFailed
from support.caches.asking import fetched, stored
from support.caches.varnish import VarnishEdge, running_varnish
from support.programs import require
from support.scripted import Gate, Reply, ScriptedOrigin
from support.waiting import wait_for


@pytest.fixture
def edge(origin: ScriptedOrigin, tmp_path: Path) -> Iterator[VarnishEdge]:
    with started(origin, tmp_path) as running:
        yield running


def started(origin: ScriptedOrigin, data: Path, **options: Any) -> Any:
    require("varnishd")
    return running_varnish(origin.url, data, **options)


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


# An agent that was replaced and doesn't know it


def served_by_an_old_agents_lease(edge: VarnishEdge, origin: ScriptedOrigin, *, restarts: bool = False) -> str:
    """Its successor has died, so the control side counts the edge as fenced and a purge as complete. What is served then?"""
    successor = VarnishDriver(edge.control, PositionFile(edge.work / "successor.json"), end_s=0)
    successor.take_over(edge.position.token + 1)
    edge.call(successor.probe())
    edge.call(successor.purge_everything(0))
    edge.call(successor.aclose())
    if restarts:  # the child forgets which token was the newest
        edge.kill_child()
    with suppress(DriverFailed):
        edge.lease()
    origin.answer("/leased", Reply(body=b"old"))
    edge.get("/leased")
    origin.answer("/leased", Reply(body=b"new"))
    return edge.get("/leased").text


@pytest.mark.parametrize("restarts", [False, True])
def test_it_can_not_let_the_cache_serve(edge: VarnishEdge, origin: ScriptedOrigin, restarts: bool) -> None:
    assert served_by_an_old_agents_lease(edge, origin, restarts=restarts) == "new"


@pytest.mark.parametrize(("without", "restarts"), [("token", False), ("boot", True)])
def test_without_token_or_boot_id_it_can(origin: ScriptedOrigin, tmp_path: Path, without: str, restarts: bool) -> None:
    with started(origin, tmp_path, without=(without,)) as unsafe:
        assert served_by_an_old_agents_lease(unsafe, origin, restarts=restarts) == "old"


# What another VCL has stored


def served_of_another_vcl(edge: VarnishEdge, origin: ScriptedOrigin) -> str:
    """It has no keys by which a purge would find it."""
    edge.reload(include=False)
    origin.answer("/foreign", Reply(body=b"old"))
    stored(edge, origin, "/foreign")
    edge.reload()
    origin.answer("/foreign", Reply(body=b"new"))
    edge.purge("/foreign")
    return edge.get("/foreign").text


def test_what_another_vcl_has_stored_is_not_served(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    assert served_of_another_vcl(edge, origin) == "new"


def test_without_the_note_it_is(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, without=("foreign",)) as unsafe:
        assert served_of_another_vcl(unsafe, origin) == "old"


# The control path


def test_nobody_outside_commands(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    stored(edge, origin, "/safe")
    headers = {"AgeZero-Token": "9999", "AgeZero-Boot": edge.call(edge.driver.probe()), "AgeZero-Ban": "obj.status != 0", "AgeZero-1": "e"}
    for method in ("AGEZERO", "GET", "PURGE", "BAN"):
        for path in ("/state", "/ban", "/lease", "/safe"):
            # On a connection of its own: Varnish closes one that is idle for long, as it may be on a busy machine.
            answer = httpx.request(method, edge.url + path, headers={**headers, "AgeZero-Until": "0"}, timeout=60)
            assert "AgeZero" not in answer.headers
    assert not fetched(edge, origin, "/safe")
    assert oct(edge.control.stat().st_mode & 0o777) == "0o600"


def test_a_client_cannot_speak_for_the_vcl(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    edge.fence()
    assert edge.get("/spoof", AgeZero_Url="x/y").status_code == 400
    spoof = {"AgeZero_Until": "99999999999", "AgeZero_Off": "", "AgeZero_Gone": "1"}
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
