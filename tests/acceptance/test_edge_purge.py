"""What was purged is not served again by the embedded edge, nor anything without a lease; unsafe methods included."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from agezero.core.canonical import canonical_authority
from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.edges.nginx.driver import NginxDriver
from agezero.edges.nginx.process import running
from agezero.ports import DriverFailed
from support.edge import Edge, is_hit, running_edge, status
from support.scripted import Gate, Reply, ScriptedOrigin
from support.waiting import wait_for

FENCED = "fwd=bypass; detail=fenced; fwd-status=200"


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running_edge(origin.url, tmp_path_factory.mktemp("edge"), slots=2**16) as running:
        yield running


def stored(edge: Edge, *targets: str) -> None:
    for target in targets:
        edge.get(target)
        assert is_hit(edge.get(target)), target


def missed(edge: Edge, *targets: str) -> set[str]:
    return {target for target in targets if not is_hit(edge.get(target))}


SPELLINGS = ("/a%20b/%7Ec?d=%2f", "/a%20b/~c?d=%2F", "/x/../a%20b/%7ec?d=%2f", "/./a%20b/~c?d=%2F", "/%61%20b/~c?d=%2f")


def test_every_spelling_of_a_url_is_purged(edge: Edge) -> None:
    for target in SPELLINGS * 2:
        told = edge.ask(target)
    assert told.startswith("hit;")
    edge.purge("/a b/~c?d=%2f")
    assert {edge.ask(target) for target in SPELLINGS} == {"fwd=miss; fwd-status=200; stored"}


def test_urls_that_look_alike_as_text_are_purged_each(edge: Edge) -> None:
    """Bytes that are not UTF-8 are one and the same character to njs."""

    def is_hit_at(byte: bytes) -> bool:
        request = b"GET /alike/%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (byte, edge.settings.listen.encode())
        with socket.create_connection(edge.settings.address, timeout=10) as client:
            client.sendall(request)
            return b"edge; hit" in b"".join(iter(lambda: client.recv(65536), b""))

    assert not any(is_hit_at(byte) for byte in (b"\xfe", b"\xff"))
    assert all(is_hit_at(byte) for byte in (b"\xfe", b"\xff"))
    edge.purge("/alike/%FF")
    assert [is_hit_at(byte) for byte in (b"\xfe", b"\xff")] == [True, False]


def test_a_url_is_purged_alone(edge: Edge) -> None:
    stored(edge, "/alone", "/alone?x", "/alone/")
    edge.purge("/alone")
    assert missed(edge, "/alone", "/alone?x", "/alone/") == {"/alone"}


@pytest.mark.parametrize("prefix", ["/dir/", "/dir/fi", "/dir/file.jpg?w=1"])
def test_a_prefix_is_purged(edge: Edge, prefix: str) -> None:
    targets = ("/dir/", "/dir/file.jpg", "/dir/file.jpg?w=1", "/dir/file.jpg?w=10", "/dir/sub/file.jpg", "/other")
    stored(edge, *targets)
    edge.purge(prefix + "*")
    assert missed(edge, *targets) == {target for target in targets if target.startswith(prefix)}


HOSTS = ("one.example.com", "ONE.example.com:80", "one.example.com.", "one.example.com:443")


def test_a_host_is_purged_in_every_spelling(edge: Edge) -> None:
    edge.get("/host", Host=HOSTS[0])
    assert all(is_hit(edge.get("/host", Host=host)) for host in HOSTS)
    edge.get("/host", Host="two.example.com")
    edge.purge(Selector(Kind.HOST, "one.example.com"))
    assert [is_hit(edge.get("/host", Host=host)) for host in reversed(HOSTS)] == [False, True, True, True]
    assert is_hit(edge.get("/host", Host="two.example.com"))


def test_everything_is_purged(edge: Edge) -> None:
    stored(edge, "/e/1", "/e/2")
    edge.purge(EVERYTHING)
    assert missed(edge, "/e/1", "/e/2") == {"/e/1", "/e/2"}


def test_a_log_that_begins_anew_cannot_bring_anything_back(edge: Edge) -> None:
    """Its seqs are low again, and yet every purge must find a number that no stored object has."""
    stored(edge, "/anew")
    edge.call(edge.driver.purge_everything(0))
    assert status(edge.get("/anew")) == FENCED
    edge.lease()
    assert missed(edge, "/anew") == {"/anew"}
    stored(edge, "/anew")
    edge.call(edge.driver.apply([Purge(1, Selector(Kind.URL, canonical_authority(edge.settings.listen) + "/anew"))]))
    assert missed(edge, "/anew") == {"/anew"}
    edge.call(edge.driver.purge_everything(0))
    edge.lease()
    assert missed(edge, "/anew") == {"/anew"}


def race(edge: Edge, origin: ScriptedOrigin, target: str, place: str) -> str:
    """What is served after a purge was confirmed while a fetch of the old object was in ``place``."""
    gate = Gate()
    old = Reply(body=b"old" * 10000)
    setattr(old, place, gate)
    origin.answer(target, old)
    with ThreadPoolExecutor(4) as pool:
        fetches = [pool.submit(httpx.get, edge.url + target, timeout=30) for _ in range(4)]
        assert gate.reached.wait(30)
        origin.answer(target, Reply(body=b"new"))
        edge.purge(target)
        gate.open.set()
        for fetch in fetches:
            fetch.result()
    return edge.get(target).text[:3]


@pytest.mark.parametrize("place", ["before_head", "in_body"])
def test_a_fetch_in_flight_does_not_outlive_a_purge(edge: Edge, origin: ScriptedOrigin, place: str) -> None:
    assert race(edge, origin, f"/race/{place}", place) == "new"


def test_without_the_epoch_in_the_key_it_does(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path, epoch_in_key=False) as plain:
        assert race(plain, origin, "/race/plain", "in_body") == "old"


def test_the_lease_runs_out(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path) as edge:
        stored(edge, "/lease")
        edge.lease(0.5)
        wait_for(lambda: status(edge.get("/lease")) == FENCED, "the end of the lease")
        edge.lease()
        assert is_hit(edge.get("/lease"))
        edge.call(edge.driver.fence())
        assert status(edge.get("/lease")) == FENCED


def test_without_the_check_it_does_not(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path, lease_checked=False) as edge:
        stored(edge, "/lease")
        edge.call(edge.driver.fence())
        assert is_hit(edge.get("/lease"))


def test_a_lease_before_the_table_is_refused(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path) as edge:
        edge.call(edge.driver._call("POST", "/load", boot=edge.call(edge.driver.probe())))
        with pytest.raises(DriverFailed, match="not loaded"):
            edge.lease()


def test_an_older_agent_is_refused(edge: Edge) -> None:
    newer = NginxDriver(edge.files, edge.slots, edge.marks)
    before = edge.slots.token
    edge.call(newer._call("POST", "/write", everything=0, gates="", writes=[], local=[]))
    edge.slots.token = before - 1
    try:
        with pytest.raises(DriverFailed, match="token"):
            edge.purge("/older")
        with pytest.raises(DriverFailed, match="newer agent"):
            edge.call(edge.driver.probe())
    finally:
        edge.slots.token = before
        edge.call(newer.aclose())


def test_an_error_in_the_script_means_bypass(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """The other half: the same edge, before the error, hits."""
    with running_edge(origin.url, tmp_path) as edge:
        stored(edge, "/error")
        script = edge.files.home / "js" / "edge.js"
        edge.call(edge.process.stop())
        text = script.read_text()
        assert "function key(r) {" in text
        broken = text.replace("function key(r) {", "function key(r) { throw new Error('broken');", 1)
        edge.process.files.home.joinpath("js", "edge.js").write_text(broken)
        edge.call(edge.process._spawn())
        edge.open()
        answers = [edge.get("/error") for _ in range(2)]
        assert {answer.text for answer in answers} == {"v1"}
        assert {status(answer) for answer in answers} == {"fwd=bypass; detail=url; fwd-status=200"}


@pytest.mark.parametrize("host", ["a_b-.example.com", "x" * 64 + "\u00e9.example.com"])
def test_a_host_that_no_purge_can_name_is_not_cached(edge: Edge, host: str) -> None:
    headers = httpx.Headers({b"Host": host.encode()})
    answers = [edge.client.get("/host", headers=headers) for _ in range(2)]
    assert not any(is_hit(answer) for answer in answers if answer.status_code == 200)


def test_a_fragment_is_not_cached(edge: Edge) -> None:
    """Some origins cut it off, and a purge of the URL would not know of it."""
    assert {edge.ask("/page#part") for _ in range(2)} == {"fwd=bypass; detail=url; fwd-status=200"}


@pytest.mark.parametrize("target", ["/" + "x" * 9000, "/" + "|" * 3000], ids=["as it is", "once it is encoded"])
def test_a_url_that_is_too_long_to_be_purged_is_not_cached(edge: Edge, target: str) -> None:
    assert {edge.ask(target) for _ in range(2)} == {"fwd=bypass; detail=url; fwd-status=200"}
    assert edge.client.post(target).status_code == 200, "there is nothing to be invalidated"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_an_unsafe_method_invalidates_its_url(edge: Edge, origin: ScriptedOrigin, method: str) -> None:
    target = f"/unsafe/{method}"
    stored(edge, target, target + "?other")
    origin.answer(target, Reply(303, headers={}))
    assert status(edge.client.request(method, target)) == "fwd=method; fwd-status=303"
    assert missed(edge, target, target + "?other") == {target}


def test_an_unsafe_method_that_fails_does_not(edge: Edge, origin: ScriptedOrigin) -> None:
    stored(edge, "/unsafe/fails")
    origin.answer("/unsafe/fails", Reply(403, headers={}))
    edge.client.post("/unsafe/fails")
    assert is_hit(edge.get("/unsafe/fails"))


def test_an_invalidation_outlives_nginx(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path) as edge:
        stored(edge, "/touched", "/untouched")
        edge.client.post("/touched")
        restart(edge)
        assert missed(edge, "/touched", "/untouched") == {"/touched"}
        assert is_hit(edge.get("/touched"))


def test_without_the_mark_it_does_not(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path) as edge:
        stored(edge, "/touched")
        edge.client.post("/touched")
        marks = edge.marks.path.read_bytes()
        edge.marks.path.write_bytes(marks[:8] + bytes(len(marks) - 8))
        restart(edge)
        assert is_hit(edge.get("/touched"))


def restart(edge: Edge) -> None:
    """kill -9 of all of nginx; back with its table and a lease on return."""
    before = edge.call(edge.driver.probe())
    kill_nginx(edge)

    def back() -> bool:
        try:
            return edge.call(edge.driver.probe()) != before
        except DriverFailed:
            return False

    wait_for(back, "nginx to be started again")
    edge.open()


def kill_nginx(edge: Edge) -> None:
    for pid in sorted(running(edge.files.home)):
        os.kill(pid, signal.SIGKILL)


def test_a_mark_that_cannot_be_written_voids_the_disk_cache(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """A full disk refuses a write, not a removal. Here a folder in place of the file refuses the write, and the removal too."""
    with running_edge(origin.url, tmp_path) as edge:
        stored(edge, "/full")
        boot = edge.call(edge.driver.probe())
        edge.marks.path.unlink()
        edge.marks.path.mkdir()
        edge.client.post("/full")
        assert status(edge.get("/full")) == FENCED
        assert edge.call(edge.driver.probe()) != boot
        with pytest.raises(DriverFailed, match="neither written nor removed"):
            edge.open()
        with pytest.raises(DriverFailed, match="not loaded"):
            edge.lease()
        edge.marks.path.rmdir()
        edge.open()
        stored(edge, "/full", "/full2")
        restart(edge)
        assert missed(edge, "/full", "/full2") == {"/full", "/full2"}


def test_a_restarted_nginx_is_fenced_until_its_table_is_back(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path) as edge:
        stored(edge, "/kept", "/gone", "/dir/gone", "/dir/x")
        edge.purge("/gone")
        edge.purge("/dir/g*")
        kill_nginx(edge)
        wait_for(lambda: answers(edge), "nginx to be started again")
        assert status(edge.get("/kept")) == FENCED
        edge.open()
        assert missed(edge, "/kept", "/gone", "/dir/gone", "/dir/x") == {"/gone", "/dir/gone"}


def answers(edge: Edge) -> bool:
    try:
        return edge.get("/").status_code == 200
    except httpx.TransportError:
        return False


def test_purges_at_random_moments(edge: Edge, origin: ScriptedOrigin) -> None:
    """Readers never stop; after each confirmed purge, nobody sees what was there before."""
    versions = itertools.count(1)
    current = [0]
    origin.answer("/storm", lambda _: Reply(body=str(current[0]).encode()))
    done = threading.Event()
    stale: list[tuple[int, int]] = []

    def read() -> None:
        with httpx.Client(base_url=edge.url, timeout=30) as client:
            while not done.is_set():
                confirmed = purged[0]
                seen = int(client.get("/storm").text)
                if seen < confirmed:
                    stale.append((seen, confirmed))

    purged = [0]
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for _ in range(60):
            current[0] = next(versions)
            edge.purge(random.choice(["/storm", "/sto*", "/*"]))
            purged[0] = current[0]
        done.set()
        for reader in readers:
            reader.result()
    assert not stale
