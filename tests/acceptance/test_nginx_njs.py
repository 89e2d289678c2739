"""A user's own nginx with njs keeps its scripts and serves nothing purged, whatever fails or loses the table."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from agezero.config.edges import NginxNjs
from agezero.edges.kinds import Finding
from agezero.edges.nginx_njs.config import Options
from agezero.edges.nginx_njs.examine import examine, program_findings
from agezero.edges.nginx_njs.kind import KIND
from agezero.errors import UserError
from agezero.ports import DriverFailed
from support.caches.nginx_njs import NginxNjsEdge, running_nginx_njs
from support.scripted import Reply, ScriptedOrigin
from support.waiting import wait_for


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxNjsEdge]:
    with running_nginx_njs(origin.url, tmp_path_factory.mktemp("edge"), workers=3) as running:
        yield running


def served(edge: NginxNjsEdge, target: str) -> tuple[str, str]:
    answer = edge.get(target)
    return answer.text, answer.headers["X-Cache"]


def test_njs_of_the_users_own_goes_on_beside_it(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_njs(origin.url, tmp_path) as edge:
        (edge.home / "edge.js").write_text("export default { key: () => 'theirs' };")  # of the same name, to make it hard
        (edge.home / "settings.js").write_text("export default { slots: 3 };")
        theirs = f"js_path {edge.home}; js_import edge from edge.js; js_set $theirs edge.key; add_header X-Theirs $theirs;\n    proxy_http_version"
        conf = edge.home / "nginx.conf"
        conf.write_text(conf.read_text().replace("proxy_http_version", theirs, 1))
        edge.restart()
        edge.open()
        assert [served(edge, "/z/t")[1] for _ in range(2)] == ["MISS", "HIT"]
        edge.purge("/z/t")
        assert served(edge, "/z/t")[1] == "MISS"
        assert edge.get("/z/x").headers.get("X-Theirs", "theirs") == "theirs"


# Faults of the data plane's own code


def test_an_error_in_njs_bypasses(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_njs(origin.url, tmp_path, edit=("edge.js", "function epoch(r) {", "function epoch(r) { broken.on.purpose;")) as broken:
        assert [served(broken, "/two/e")[1] for _ in range(3)] == ["BYPASS"] * 3
        assert '"broken" is not defined' in broken.errors()


def test_without_the_bypass_an_error_serves_what_was_purged(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """The safeguard off: an error gives an empty epoch, and that is just another key, whose objects no purge outdates."""
    with running_nginx_njs(origin.url, tmp_path, edit=("agezero-http.conf", '""      1;', '""      "";')) as unsafe:
        unsafe.fence()
        origin.answer("/two/u", Reply(body=b"old"))
        served(unsafe, "/two/u")
        unsafe.purge("/two/u")
        origin.answer("/two/u", Reply(body=b"new"))
        assert served(unsafe, "/two/u") == ("old", "HIT")


# The table is lost


def test_started_anew_it_is_fenced_until_the_table_is_back(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_njs(origin.url, tmp_path) as edge:
        origin.answer("/z/k", Reply(body=b"old"))
        served(edge, "/z/k")
        edge.purge("/z/k")
        before = edge.call(edge.driver.probe())
        edge.kill()
        edge.start()
        with pytest.raises(DriverFailed, match="started again"):
            edge.purge("/z/other")  # what was meant for the nginx before
        assert edge.call(edge.driver.probe()) != before
        assert [served(edge, "/z/k")[1] for _ in range(2)] == ["BYPASS"] * 2
        with pytest.raises(DriverFailed, match="not loaded"):
            edge.lease(0.001)
        origin.answer("/z/k", Reply(body=b"new"))
        edge.open()
        assert served(edge, "/z/k") == ("new", "MISS")


def test_a_lease_before_the_table_brings_what_was_purged_back(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """The twin: njs gives the lease without a table, and then each object has the key from before the first purge."""
    edit = ("control.js", "text.get('loaded') !== boot() ||", "")
    with running_nginx_njs(origin.url, tmp_path, edit=edit, opened=False) as unsafe:
        origin.answer("/two/l", Reply(body=b"old"))
        unsafe.call(unsafe.driver.probe())
        unsafe.lease(0.5)
        served(unsafe, "/two/l")
        origin.answer("/two/l", Reply(body=b"new"))
        unsafe.open(0.5)
        assert served(unsafe, "/two/l")[0] == "new"
        unsafe.kill()
        unsafe.start()
        unsafe.call(unsafe.driver.probe())
        wait_for(lambda: _leased(unsafe), "the lease of the workers before to be over")
        assert served(unsafe, "/two/l") == ("old", "HIT")


def _leased(edge: NginxNjsEdge) -> bool:
    with suppress(DriverFailed):
        edge.lease()
        return True
    return False


def reloaded_with_an_empty_table(edge: NginxNjsEdge, target: str) -> socket.socket:
    """Returns a connection to a worker of before, on which half of a request for ``target`` was sent."""
    host, _, port = edge.address.rpartition(":")
    half = socket.create_connection((host, int(port)), timeout=30)
    half.sendall(f"GET {target} HTTP/1.1\r\nHost: {edge.address}\r\n".encode())
    before = edge.call(edge.driver.probe())
    conf = edge.folder / "agezero-http.conf"
    conf.write_text(re.sub(r"agezero_table:(\d+)k", lambda match: f"agezero_table:{int(match[1]) + 64}k", conf.read_text()))
    assert edge.process is not None
    edge.process.send_signal(signal.SIGHUP)
    wait_for(lambda: edge.call(edge.driver.probe()) != before, "the workers after the reload")
    return half


def rest_of(half: socket.socket) -> bytes:
    half.sendall(b"Connection: close\r\n\r\n")
    with half.makefile("rb") as answer:
        return answer.read()


def test_a_reload_that_loses_the_table_waits_for_the_lease_of_the_workers_before(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """It takes a lease's length, 2 s."""
    with running_nginx_njs(origin.url, tmp_path) as edge:
        origin.answer("/z/w", Reply(body=b"old"))
        served(edge, "/z/w")
        edge.lease(2.0)
        with reloaded_with_an_empty_table(edge, "/z/w") as half:
            with pytest.raises(DriverFailed, match="may use the cache for another"):
                edge.open()
            assert served(edge, "/z/w")[1] == "BYPASS"
            wait_for(lambda: not edge.last.left_s("another"), "the lease of the workers before to be over")
            edge.open()
            edge.purge("/z/w")
            origin.answer("/z/w", Reply(body=b"new"))
            assert rest_of(half).endswith(b"new")


def test_fencing_one_run_of_nginx_says_nothing_of_the_one_before(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """An agent that ends now has to leave that lease to run out."""
    with running_nginx_njs(origin.url, tmp_path) as edge:
        served(edge, "/z/w")
        with reloaded_with_an_empty_table(edge, "/z/w"):
            edge.call(edge.driver.probe())
            with pytest.raises(DriverFailed, match="what is left of the one before"):
                edge.fence()


def test_without_that_wait_a_worker_of_before_serves_what_was_purged(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_njs(origin.url, tmp_path) as unsafe:
        origin.answer("/z/w", Reply(body=b"old"))
        served(unsafe, "/z/w")
        with reloaded_with_an_empty_table(unsafe, "/z/w") as half:
            unsafe.last.end(unsafe.last.boot)  # the safeguard off: nobody remembers that lease
            unsafe.open()
            unsafe.purge("/z/w")
            origin.answer("/z/w", Reply(body=b"new"))
            assert rest_of(half).endswith(b"old")


def test_a_reload_that_keeps_the_table_goes_unnoticed(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_njs(origin.url, tmp_path) as edge:
        served(edge, "/z/h")
        before = edge.call(edge.driver.probe())
        assert edge.process is not None
        edge.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "gracefully shutting down" in edge.errors() or served(edge, "/z/h")[1] == "HIT", "the reload")
        edge.purge("/z/h")
        assert (edge.call(edge.driver.probe()), served(edge, "/z/h")[1]) == (before, "MISS")


# The control path


def test_no_visitor_reaches_the_control_path(edge: NginxNjsEdge) -> None:
    for target in ("/state", "//state", "/agezero/state"):
        assert "agezero" not in edge.get(target, Host="edge").text
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(edge.options.socket))) as agent:
        assert agent.get("http://edge/state").json()["agezero"] == 1
        assert agent.get("http://edge/other").status_code == 409


def test_without_the_include_nobody_answers(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_njs(origin.url, tmp_path, without="include", opened=False) as bare:
        with pytest.raises(DriverFailed, match=r"agezero-http\.conf"):
            bare.open()
        assert [finding.ok for finding in findings(bare).values()] == [False, False]


def test_a_table_of_another_size_is_refused(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """nginx would look for purges in other places than the agent writes them to."""
    edit = ("settings.js", str(2**14), str(2**13))
    with running_nginx_njs(origin.url, tmp_path, edit=edit, opened=False) as other:
        with pytest.raises(DriverFailed, match="8192 slots, and the agent's has 16384"):
            other.open()
        assert [served(other, "/z/s")[1] for _ in range(2)] == ["BYPASS"] * 2
        assert "edge-config" in findings(other)["nginx and the agent have purge tables of one size"].fix


def findings(edge: NginxNjsEdge) -> dict[str, Finding]:
    options = NginxNjs(name="n", control=str(edge.options.socket), slots=edge.options.slots)
    return {finding.what: finding for finding in edge.call(_all(options))}


async def _all(options: NginxNjs) -> list[Finding]:
    return list(await examine(options, Path("/nowhere")))


def test_the_doctor_sees_what_is_wrong(edge: NginxNjsEdge) -> None:
    assert all(finding.ok for finding in findings(edge).values())
    edge.socket.parent.chmod(0o755)
    try:
        assert [what for what, finding in findings(edge).items() if not finding.ok] == ["the control path is closed to others"]
    finally:
        edge.socket.parent.chmod(0o700)


@pytest.mark.parametrize(("said", "bad"), [("configure arguments: --add-module=njs-0.7.9/nginx", True), ("njs-0.9.9", False), ("dynamic", False)])
def test_the_doctor_reads_what_nginx_says_of_itself(said: str, bad: bool) -> None:
    assert [finding.what for finding in program_findings("nginx", said)] == ["njs's version"] * bad


def test_the_configuration_is_printed_for_the_edge(tmp_path: Path) -> None:
    text = KIND.configuration(NginxNjs(name="n", control="/run/x.sock", slots=1 << 12), tmp_path)
    assert "listen unix:/run/x.sock;" in text
    assert '{"slots": 4096' in text
    assert text.count("\n// File: ") == 4
    with pytest.raises(UserError, match="socket"):
        Options(socket=Path("/run/a b"))


def test_a_lease_is_remembered_over_a_restart_of_the_agent(edge: NginxNjsEdge, tmp_path: Path) -> None:
    last = type(edge.last)(tmp_path / "lease.json")
    assert last.left_s("b") == 0
    now_ms = int(time.time() * 1000)
    last.begin("a", time.monotonic() + 100, now_ms, now_ms + 50_000)
    again = type(edge.last)(tmp_path / "lease.json")
    assert again.left_s("b") > 50
    assert again.left_s("a") == 0
    again.end("b")
    assert again.left_s("b") > 50
    again.end("a")
    assert again.left_s("b") == 0
