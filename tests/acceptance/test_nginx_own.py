"""A user's own nginx with Lua keeps its slices and updates in the background, and serves nothing purged, whatever fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from agezero.config.edges import Nginx
from agezero.core.selector import Kind, Selector
from agezero.edges.kinds import Finding
from agezero.edges.nginx_lua.config import Options
from agezero.edges.nginx_lua.examine import examine, program_findings
from agezero.edges.nginx_lua.kind import KIND
from agezero.edges.slots import SlotFile
from agezero.errors import UserError
from agezero.ports import DriverFailed
from support.caches.nginx_lua import NGINX, NginxLuaEdge, running_nginx_lua
from support.programs import require
from support.scripted import Asked, Gate, Reply, ScriptedOrigin, scripted_origin
from support.waiting import wait_for


@pytest.fixture(scope="module")
def origin() -> Iterator[ScriptedOrigin]:
    require(*NGINX)
    with scripted_origin() as running:
        yield running


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxLuaEdge]:
    with running_nginx_lua(origin.url, tmp_path_factory.mktemp("edge"), workers=3) as running:
        yield running


def served(edge: NginxLuaEdge, target: str) -> tuple[str, str]:
    answer = edge.get(target)
    return answer.text, answer.headers["X-Cache"]


def test_a_herd_after_a_purge_is_one_fetch(edge: NginxLuaEdge, origin: ScriptedOrigin) -> None:
    target = "/z/herd"
    gate = Gate()
    edge.purge(target)
    origin.answer(target, Reply(body=b"new", before_head=gate))
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(httpx.get, edge.url + target, timeout=30) for _ in range(8)]
        assert gate.reached.wait(30)
        gate.open.set()
        assert {one.result().text for one in waiting} == {"new"}
    assert origin.count(target) == 1


def test_a_background_update_does_not_bring_the_old_object_back(edge: NginxLuaEdge, origin: ScriptedOrigin) -> None:
    target = "/z/updated"
    headers: dict[str, str | list[str]] = {"Cache-Control": "max-age=1"}
    origin.answer(target, Reply(headers=headers, body=b"old"))
    served(edge, target)
    gate = Gate()
    origin.answer(target, Reply(headers={"Cache-Control": "max-age=3600"}, body=b"old", before_head=gate))
    wait_for(lambda: served(edge, target)[1] in ("STALE", "UPDATING"), "the object to be stale and updated behind the client's back")
    assert gate.reached.wait(30)
    edge.purge(target)
    origin.answer(target, Reply(body=b"new"))
    gate.open.set()
    assert [served(edge, target)[0] for _ in range(20)] == ["new"] * 20


def test_a_sliced_object_is_purged_in_all_its_parts(edge: NginxLuaEdge, origin: ScriptedOrigin) -> None:
    target = "/sliced/video"

    def content(letter: str, size: int) -> None:
        def part(asked: Asked) -> Reply:
            first, last = (int(number) for number in asked.headers["Range"].removeprefix("bytes=").split("-"))
            body = (letter * size)[first : last + 1].encode()
            headers: dict[str, str | list[str]] = {"Content-Range": f"bytes {first}-{first + len(body) - 1}/{size}", "ETag": f'"{letter}"'}
            return Reply(status=206, headers=headers, body=body)

        origin.answer(target, part)

    content("o", 3000)
    assert edge.get(target).text == "o" * 3000
    content("n", 2500)
    assert edge.get(target).text == "o" * 3000
    edge.purge(target)
    assert edge.get(target).text == "n" * 2500
    assert edge.get(target, Range="bytes=2000-2009").text == "n" * 10


def test_post_is_not_cached(edge: NginxLuaEdge, origin: ScriptedOrigin) -> None:
    origin.answer("/z/post", Reply(body=b"x"))
    before = origin.count("/z/post")
    for _ in range(2):
        assert edge.client.post(f"{edge.url}/z/post", content=b"x").status_code == 200
    assert origin.count("/z/post") == before + 2


# Faults of the data plane's own code


def test_an_error_in_lua_bypasses(origin: ScriptedOrigin, tmp_path: Path) -> None:
    edit = ("agezero_nginx.lua", "local var = ngx.var", "error('broken on purpose')")
    with running_nginx_lua(origin.url, tmp_path, edit=edit) as broken:
        assert [served(broken, target)[1] for target in ("/two/e", "/z/e", "/two/e")] == ["BYPASS"] * 3
        assert "broken on purpose" in broken.errors()


BEGINS = {"agezero_url.lua": "local bit = require", "agezero.lua": "local ffi = require", "agezero_nginx.lua": "local folder, path"}


@pytest.mark.parametrize("file", BEGINS)
def test_a_module_that_can_not_be_loaded_bypasses(origin: ScriptedOrigin, tmp_path: Path, file: str) -> None:
    with running_nginx_lua(origin.url, tmp_path, edit=(file, BEGINS[file], "this is not Lua"), opened=False) as broken:
        assert [served(broken, target)[1] for target in ("/two/e", "/z/e", "/two/e")] == ["BYPASS"] * 3
        with pytest.raises(DriverFailed, match="AgeZero's code"):
            broken.open()


def test_without_the_pcall_an_error_is_the_visitors(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """The safeguard off: nginx answers 500. With Lua it never falls back to the plain key, as Traffic Server does; that is what the bypass is for."""
    edit = ("agezero_nginx.lua", "local ok, answer = pcall(look_up)", "local ok, answer = true, error('broken on purpose')")
    with running_nginx_lua(origin.url, tmp_path, edit=edit) as unsafe:
        assert [unsafe.get("/two/e").status_code for _ in range(3)] == [500] * 3


def test_without_the_bypass_an_error_serves_what_was_purged(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """The safeguard off: an error gives an empty epoch, and that is just another key, whose objects no purge outdates."""
    off = ("agezero-http.conf", '""      1;', '""      "";')
    with running_nginx_lua(origin.url, tmp_path, edit=off) as unsafe:
        unsafe.fence()
        origin.answer("/two/u", Reply(body=b"old"))
        served(unsafe, "/two/u")
        unsafe.purge("/two/u")
        origin.answer("/two/u", Reply(body=b"new"))
        assert served(unsafe, "/two/u") == ("old", "HIT")


def test_a_lease_before_the_table_is_refused(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """nginx reads another file than the agent writes: it stays fenced, and no lease is given."""
    with running_nginx_lua(origin.url, tmp_path, opened=False) as lost:
        lost.edit(*((f"agezero-{name}.conf", "/table", "/elsewhere") for name in ("http", "location", "tagged")))
        lost.restart()
        with pytest.raises(DriverFailed, match="does not read the purge table"):
            lost.open()
        assert [served(lost, "/z/l")[1] for _ in range(2)] == ["BYPASS"] * 2


def test_a_worker_that_cannot_tell_its_kernel_is_found_out(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """No lease counts for it, so an agent that took it for served would hide that all of its requests bypass."""
    edit = ("agezero.lua", "/proc/sys/kernel/random/boot_id", "/nowhere")
    with running_nginx_lua(origin.url, tmp_path, edit=edit, opened=False) as blind, pytest.raises(DriverFailed, match="must see /proc/sys"):
        blind.open()


def test_a_lease_that_was_not_proven_serves_what_was_purged(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """The twin: nginx reads another table, whose lease is a live one, and the agent does not ask whose table it is."""
    with (
        running_nginx_lua(origin.url, tmp_path, opened=False) as lost,
        SlotFile(lost.home / "elsewhere", 2**12, mode=0o644) as other,
    ):
        other.readers.lease(time.monotonic_ns() + 3600 * 10**9)
        lost.edit(*((f"agezero-{name}.conf", "/table", "/elsewhere") for name in ("http", "location", "tagged")))
        lost.restart()
        with pytest.raises(DriverFailed, match="does not read the purge table"):
            lost.open()
        origin.answer("/z/l", Reply(body=b"old"))
        served(lost, "/z/l")
        lost.purge("/z/l")
        origin.answer("/z/l", Reply(body=b"new"))
        assert served(lost, "/z/l") == ("old", "HIT")


def test_the_table_comes_before_the_lease(edge: NginxLuaEdge, origin: ScriptedOrigin) -> None:
    """Its twin is in the next lines: leased before it had the purge, it served what is purged."""
    for target, in_order in (("/z/order", True), ("/z/disorder", False)):
        origin.answer(target, Reply(body=b"old"))
        served(edge, target)
        edge.fence()
        origin.answer(target, Reply(body=b"new"))
        if in_order:
            edge.purge(target)
        edge.lease()
        assert served(edge, target)[0] == ("new" if in_order else "old")
    edge.purge("/z/disorder")
    assert served(edge, "/z/disorder")[0] == "new"


def test_a_table_that_was_replaced_is_found(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_lua(origin.url, tmp_path) as edge:
        origin.answer("/z/r", Reply(body=b"old"))
        assert [served(edge, "/z/r")[1] for _ in range(2)] == ["MISS", "HIT"]
        edge.slots.close()
        edge.state = edge.slots = SlotFile(edge.options.table, 2**12, mode=0o644)  # of another size, so the file is another
        edge.driver._slots = edge.slots  # type: ignore[attr-defined]
        origin.answer("/z/r", Reply(body=b"new"))
        edge.open()
        wait_for(lambda: served(edge, "/z/r")[1] == "HIT", "all workers to have the new table")
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda _: edge.get_anew("/z/r"), range(16))) == {"new"}


def test_killed_and_started_with_its_disk_it_serves_nothing_purged(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_lua(origin.url, tmp_path) as edge:
        origin.answer("/z/k", Reply(body=b"old"))
        served(edge, "/z/k")
        edge.purge(Selector(Kind.HOST, edge.host))
        edge.kill()
        edge.start()
        origin.answer("/z/k", Reply(body=b"new"))
        assert served(edge, "/z/k") == ("new", "MISS")  # the table and its lease were there all along
        assert served(edge, "/z/k") == ("new", "HIT")


# Conditions of the user's own

CONDITION = """
        location /mine/ {
            proxy_cache one;
            proxy_cache_key "$agezero_epoch|$request_uri";
            proxy_no_cache $cookie_session;
            include agezero/agezero-location.conf;
            proxy_pass http://origin;
        }
"""


def test_a_condition_beside_the_include_counts_as_well(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_nginx_lua(origin.url, tmp_path, more=CONDITION) as edge:
        assert [edge.get("/mine/x", Cookie="session=1").headers["X-Cache"] for _ in range(2)] == ["MISS"] * 2
        assert [served(edge, "/mine/x")[1] for _ in range(2)] == ["MISS", "HIT"]
        edge.fence()
        assert served(edge, "/mine/x")[1] == "BYPASS"


# Inner redirects

REDIRECTED = """
        location /missing/ {
            proxy_cache one;
            proxy_cache_key "$agezero_epoch|$scheme$host$request_uri";
            include agezero/agezero-location.conf;
            proxy_intercept_errors on;
            error_page 404 = /instead$uri;
            proxy_pass http://origin;
        }
        location /instead/ {
            internal;
            proxy_cache one;
            proxy_cache_key "$agezero_epoch|$scheme$host$uri";
            include agezero/agezero-location.conf;
            proxy_pass http://origin;
        }
"""


def redirected_as_the_lease_ends(edge: NginxLuaEdge, origin: ScriptedOrigin, body: bytes) -> str:
    """The first location still had an epoch, the one it leads to has none."""
    gate = Gate()
    origin.answer("/missing/x", Reply(status=404, headers={"Cache-Control": "no-store"}, before_head=gate))
    origin.answer("/instead/missing/x", Reply(body=body))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(edge.get, "/missing/x")
        assert gate.reached.wait(30)
        edge.fence()
        gate.open.set()
        return answer.result().text


@pytest.mark.parametrize("kept", [False, True], ids=["", "without: the verdict of the first location is kept"])
def test_a_lease_that_ends_before_an_inner_redirect_bypasses(origin: ScriptedOrigin, tmp_path: Path, kept: bool) -> None:
    edit = ("agezero-http.conf", "    volatile;\n", "") if kept else None
    with running_nginx_lua(origin.url, tmp_path, more=REDIRECTED, edit=edit) as edge:
        assert redirected_as_the_lease_ends(edge, origin, b"old") == "old"
        edge.purge(Selector(Kind.HOST, edge.host))
        edge.lease()
        assert redirected_as_the_lease_ends(edge, origin, b"new") == ("old" if kept else "new")


# The control path


def test_no_visitor_reaches_the_control_path(edge: NginxLuaEdge) -> None:
    for target in ("/nonce", "//nonce", "/agezero/nonce"):
        assert "agezero" not in edge.get(target, Host="edge").headers
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(edge.options.socket))) as agent:
        assert agent.get("http://edge/nonce").json()["agezero"] == 2
        assert agent.get("http://edge/other").status_code == 404


def test_a_200_that_is_not_ours_proves_nothing(origin: ScriptedOrigin, tmp_path: Path) -> None:
    edit = ("agezero-http.conf", "location = /nonce", "location = /nonce { return 200; }\n    location = /other")
    with running_nginx_lua(origin.url, tmp_path, edit=edit, opened=False) as other, pytest.raises(DriverFailed, match="is not AgeZero's code"):
        other.open()


def test_without_the_include_nobody_answers(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with (
        running_nginx_lua(origin.url, tmp_path, without="include", opened=False) as bare,
        pytest.raises(DriverFailed, match=r"agezero-http\.conf"),
    ):
        bare.open()


def findings(edge: NginxLuaEdge) -> dict[str, Finding]:
    return {finding.what: finding for finding in edge.call(_all(edge))}


async def _all(edge: NginxLuaEdge) -> list[Finding]:
    assert isinstance(edge.described, Nginx)
    return list(await examine(edge.described, Path("/nowhere")))


def test_the_doctor_sees_what_is_wrong(edge: NginxLuaEdge) -> None:
    found = findings(edge)
    assert all(finding.ok for finding in found.values()), found
    edge.home.chmod(0o700)
    try:
        found = findings(edge)
        assert "entered" in found["the purge table can be read by nginx"].said
    finally:
        edge.home.chmod(0o755)


@pytest.mark.parametrize(
    ("said", "enabled", "bad"),
    [
        ("nginx version: nginx/1.22.1", [], "nginx's Lua module"),
        ("nginx version: nginx/1.14.2", ["50-mod-http-lua.conf"], "nginx's version"),
        ("nginx version: openresty/1.21.4.1", [], None),
        ("who knows", ["50-mod-http-lua.conf"], "nginx's version"),
    ],
)
def test_the_doctor_reads_what_nginx_says_of_itself(said: str, enabled: list[str], bad: str | None) -> None:
    assert [finding.what for finding in program_findings("nginx", said, enabled) if not finding.ok] == ([bad] if bad else [])


def test_the_configuration_is_printed_for_the_edge(tmp_path: Path) -> None:
    text = KIND.configuration(Nginx(name="n", control="/run/x.sock"), tmp_path)
    assert f'"/etc/nginx/agezero", "{tmp_path}/table"' in text
    assert "listen unix:/run/x.sock;" in text
    with pytest.raises(UserError, match="socket"):
        Options(socket=Path("/run/a b"))
