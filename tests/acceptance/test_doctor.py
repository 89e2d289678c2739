"""``agezero doctor`` on real caches: a cache that is set up as it should be gives no finding, and each mistake of a set-up is found.

The mistakes are those that the issue of the drivers names: no VCL, a wrong secret, a purge that is forwarded to the origin, a module that is absent,
a clock that jumped, nobody there, an old version, a host that is mapped wrongly, a cache that is off, a control port that is open to others.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from agezero.config import Config, Log
from agezero.config.edges import Squid
from agezero.core.selector import parse_url
from agezero.database import open_database, prepare
from agezero.doctor import examine
from agezero.doctor.alone import alone
from agezero.edges.nginx.binary import find_nginx
from agezero.edges.slots import SlotFile
from agezero.errors import UserError
from agezero.fleet import open_edges, settle_edges
from agezero.lineage import Lineage
from agezero.log.sqlite import SqliteLog, move
from support.caches.all import CACHES
from support.caches.base import CacheEdge
from support.clock import ahead
from support.doctor import command, findings, open_folder, toml
from support.ports import free_address
from support.programs import find
from support.scripted import Reply, ScriptedOrigin
from support.service import running_service
from support.waiting import wait_for

OWN = [name for name in CACHES if name != "embedded"]
Start = Callable[..., AbstractContextManager[CacheEdge]]


@pytest.fixture
def home() -> Iterator[Path]:
    with open_folder() as folder:
        yield folder


@contextmanager
def started(name: str, origin: ScriptedOrigin, data: Path, **options: Any) -> Iterator[CacheEdge]:
    """A cache that has no agent."""
    canary = {} if name == "squid" else {"canary": free_address()}
    opened = {"leased" if name == "squid" else "opened": False}
    with CACHES[name].start(origin.url, data, **canary, **opened, **options) as edge:
        edge.let_go()
        yield edge


@pytest.fixture
def patient(origin: ScriptedOrigin, home: Path) -> Start:
    """Starts a cache for one test."""
    return lambda name, **options: started(name, origin, home / "edge", **options)


@dataclass(frozen=True, slots=True)
class Well:
    """A cache that is set up as it should be, and the data directory that is used with it."""

    edge: CacheEdge
    data: Path


@pytest.fixture(scope="module")
def well(origin: ScriptedOrigin) -> Iterator[Callable[[str], Well]]:
    """One of each, for all tests that leave it as it is; started when it is first asked for."""
    with open_folder() as folder, ExitStack() as running:

        def start(name: str) -> Well:
            (folder / name).mkdir()
            return Well(running.enter_context(started(name, origin, folder / name / "edge")), folder / name / "service/store")

        yield cache(start)


# As it should be


@pytest.mark.parametrize("name", OWN)
def test_a_cache_that_is_set_up_well_gives_no_finding(well: Callable[[str], Well], name: str) -> None:
    one = well(name)
    code, said = command(one.edge.described, one.data)
    assert (code, [line for line in said.splitlines() if not line.startswith("ok ")]) == (0, [f"{name} is as it should be"]), said
    assert "bypasses without a lease" in said


# The ten mistakes


def only(found: list[Any]) -> str:
    """The words of the one finding."""
    (one,) = found
    return f"{one.what} | {one.said} | {one.fix}"


def test_missing_vcl(patient: Start, home: Path) -> None:
    with patient("varnish", include=False) as edge:
        said = only(findings(edge, home / "data"))
        assert "agezero.vcl is in use | " in said
        assert "include agezero.vcl before your own subs" in said


def test_wrong_secret(patient: Start, home: Path) -> None:
    """The secret of a mapped table is the number in it: this Squid knows that of another."""
    with SlotFile(home / "other", 1024, 0o644), patient("squid", table=home / "other") as edge:
        assert "Squid's helper reads another purge table than" in (said := only(findings(edge, home / "data")))
        assert "correct the path in store_id_program" in said


@pytest.mark.parametrize("name", ["varnish", "trafficserver"])
def test_purge_forwarded_to_the_origin(patient: Start, home: Path, origin: ScriptedOrigin, name: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "varnish": {"before": "sub vcl_recv { return (pass); }"},
        "trafficserver": {"without": ["plugins"]},
    }
    with patient(name, **options[name]) as edge:
        asked = len(origin.asked)
        said = only(findings(edge, home / "data"))
        assert len(origin.asked) > asked, "it is the origin's 200"
        if name == "varnish":
            assert "answered 200, but not as agezero.vcl does" in said
        else:
            assert "200, does not come from AgeZero's script" in said
            assert "put the plugins that `agezero edge-config` prints into the rule of this host" in said


def test_module_absent_from_nginx(patient: Start, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded edge's nginx has no Lua."""
    (home / "bin").mkdir()
    (home / "bin/nginx").symlink_to(find_nginx().binary)
    with patient("nginx", without="include") as edge:
        monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
        found = {finding.what: finding for finding in findings(edge, home / "data")}
        assert "apt install libnginx-mod-http-lua" in found["nginx's Lua module"].fix
        assert "include agezero-http.conf" in found["AgeZero's code runs in nginx"].fix


def test_module_absent_from_traffic_server(well: Callable[[str], Well], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = well("trafficserver")
    (home / "plugins").mkdir()
    (home / "plugins/conf_remap.so").symlink_to(str(find("trafficserver/modules/conf_remap.so")))
    root = home / "runroot.yaml"
    root.write_text(f"prefix: {home}\nlibexecdir: {home}/plugins\n")
    monkeypatch.setenv("TS_RUNROOT", str(root))
    said = only(findings(one.edge, one.data))
    assert "has no tslua.so" in said
    assert "apt install trafficserver-experimental-plugins" in said


def test_clock_jump(patient: Start, home: Path) -> None:
    with patient("varnish", preload=ahead(home, 3600)) as edge:
        said = only(findings(edge, home / "data"))
        assert "its clock is the agent's | 36" in said
        assert "both by one clock" in said


@pytest.mark.parametrize(("name", "who", "fix"), [("squid", "Squid does not answer", "start it"), ("nginx", "nginx does not answer", "reload nginx")])
def test_unreachable(patient: Start, home: Path, name: str, who: str, fix: str) -> None:
    with patient(name) as edge:
        edge.stop()
        found = findings(edge, home / "data")
        assert who in found[0].said
        assert fix in found[0].fix


@pytest.mark.parametrize(
    ("name", "program", "says", "fix"),
    [
        ("trafficserver", "traffic_server", "Traffic Server 8.1.1 Jan  1 2021", "install a newer Traffic Server"),
        ("varnish", "varnishd", "varnishd (varnish-6.0.13 revision 0)", "install Varnish 7.1 or newer with varnish-modules"),
        ("squid", "squid", "Squid Cache: Version 4.13", "install Squid 5 or newer"),
    ],
)
def test_old_version(well: Callable[[str], Well], home: Path, monkeypatch: pytest.MonkeyPatch, name: str, program: str, says: str, fix: str) -> None:
    """No old program can be installed beside a new one, so one stands for it that says what the old one said."""
    one = well(name)
    (home / "bin").mkdir()
    (home / "bin" / program).write_text(f"#!/bin/sh\necho '{says}'\n")
    (home / "bin" / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}/bin:{os.environ['PATH']}")
    assert fix in only(findings(one.edge, one.data))


def test_wrong_host_mapping_in_traffic_server(well: Callable[[str], Well]) -> None:
    one = well("trafficserver")
    said = only(findings(one.edge, one.data, hosts=("www.example.com",)))
    assert "AgeZero's script is in the rule for www.example.com | Traffic Server has no rule for www.example.com" in said
    assert "map it in remap.config, or correct edges.hosts" in said


def test_wrong_host_mapping_in_nginx(well: Callable[[str], Well], origin: ScriptedOrigin) -> None:
    """The front that is named leads to another server, which knows nothing of the canary."""
    one = well("nginx")
    said = only(findings(one.edge, one.data, front=origin.url))
    assert "reaches the canary | " in said
    assert "map /.well-known/agezero/ to the address in edges.canary, under the host in edges.front" in said


@pytest.mark.parametrize(("name", "options"), [("nginx", {"without": "cache"}), ("squid", {"more": "cache deny all"})])
def test_cache_off(patient: Start, home: Path, name: str, options: dict[str, Any]) -> None:
    with patient(name, **options) as edge:
        said = only(findings(edge, home / "data"))
        assert "caches | the canary was fetched again for a second request | turn the cache on for this host" in said


def test_control_port_open_in_varnish(patient: Start, home: Path) -> None:
    with patient("varnish", mode="0666") as edge:
        said = only(findings(edge, home / "data"))
        assert "the control path is closed to others | mode 0666: others may use it" in said
        assert "mode=0600" in said


def test_control_port_open_in_nginx(well: Callable[[str], Well]) -> None:
    one = well("nginx")
    folder = Path(one.edge.described.control).parent  # type: ignore[attr-defined]
    folder.chmod(0o755)
    try:
        said = only(findings(one.edge, one.data))
    finally:
        folder.chmod(0o700)
    assert "the control path is closed to others | any user of this machine can connect to" in said
    assert f"chmod 0750 {folder}" in said


def test_control_port_open_in_squid(patient: Start, home: Path) -> None:
    with patient("squid", without=("http_access deny agezero_look !agezero_port",)) as edge:
        said = only(findings(edge, home / "data"))
        assert "gives the agent's answer to its clients" in said
        assert "keep the http_access lines" in said


def test_control_port_open_in_traffic_server(patient: Start, home: Path) -> None:
    with patient("trafficserver", without=["proof"]) as edge:
        said = only(findings(edge, home / "data"))
        assert "the control path is closed to others | the rule for " in said
        assert "tells the nonce to anybody" in said


# A safeguard of the cache that is off


@pytest.mark.parametrize(
    ("name", "options", "finding"),
    [
        ("varnish", {"without": ("counter", "young")}, "keeps out what was in flight"),
        ("varnish", {"without": ("fence",)}, "bypasses without a lease"),
        ("nginx", {"without": "race"}, "purges"),
        ("trafficserver", {"without": ["race"]}, "purges"),
        ("trafficserver", {"without": ["fence"]}, "bypasses without a lease"),
        ("trafficserver", {"without": ["canary"]}, "reaches the canary"),
        ("squid", {"without": "fence"}, "bypasses without a lease"),
    ],
)
def test_the_canary_sees_what_is_missing(patient: Start, home: Path, name: str, options: dict[str, Any], finding: str) -> None:
    with patient(name, **options) as edge:
        assert [each.what for each in findings(edge, home / "data")] == [finding]


# What it costs


@contextmanager
def service_of(one: Well) -> Iterator[str]:
    """Runs ``agezero up`` for the cache, beside an embedded edge; the URL of its API."""
    with running_service(one.data.parent, config=toml(one.edge.described)) as service:
        yield service.url


@pytest.mark.parametrize("name", ["varnish", "nginx"])
def test_the_doctor_costs_no_cache_and_no_lease(well: Callable[[str], Well], origin: ScriptedOrigin, name: str) -> None:
    """Beside a service that runs and without one: what was stored before is served from the cache all along.

    Two starts of a service. So over 10 s.
    """
    one, target = well(name), f"/kept-{name}"
    origin.answer(target, Reply(body=b"stored"))
    with service_of(one) as api:
        wait_for(lambda: _hit(one.edge, origin, target), "the agent gives the lease")
        origin.answer(target, Reply(body=b"fetched anew"))
        with _asking(one.edge, target) as seen:
            code, said = command(one.edge.described, one.data, "--url", api)
        assert code == 0, said
        assert "bypasses without a lease: not tried, as the service runs" in said
        assert seen == {"stored"}, "neither purged, nor bypassed for a moment"
    code, said = command(one.edge.described, one.data)
    assert code == 0, said
    assert "because" not in said, "nothing but the canary is purged"
    with service_of(one):
        wait_for(lambda: one.edge.get(target).text == "stored", "the agent gives the lease again, and what was stored is still there")
        code, said = command(one.edge.described, one.data, "--url", f"http://{free_address()}")
        assert (code, "a service has the data directory, but it can not be asked" in said, "hint: " in said) == (1, True, True)


def _hit(edge: CacheEdge, origin: ScriptedOrigin, target: str) -> bool:
    before = origin.count(target)
    edge.get(target)
    return origin.count(target) == before


@contextmanager
def _asking(edge: CacheEdge, target: str) -> Iterator[set[str]]:
    """Somebody asks for it all the time; what was answered."""
    over, seen = threading.Event(), set[str]()

    def ask() -> None:
        with httpx.Client() as client:
            while not over.is_set():
                seen.add(client.get(edge.url + target).text)

    reader = threading.Thread(target=ask)
    reader.start()
    try:
        yield seen
    finally:
        over.set()
        reader.join()


async def served(one: Well, target: str) -> tuple[str, str]:
    """By an edge of which the doctor has made sure that it holds a lease, and what the doctor says of that."""
    config = Config(data=str(one.data), edges=(one.edge.described,))  # type: ignore[arg-type]
    with prepare(config.data_dir):
        async with alone(config, one.edge.described) as hands:
            said = await hands.serving()
            return one.edge.get(target).text, said


async def missed(data: Path, url: str) -> None:
    """A purge is accepted while the edge is away."""
    with closing(open_database(data)) as connection:
        log = SqliteLog(connection, 1000)
        log.start()
        await log.append(parse_url(url), "key")
        await log.stop()


@pytest.mark.parametrize("name", ["varnish", "squid"])
def test_what_was_missed_is_purged_before_the_doctor_has_a_lease(well: Callable[[str], Well], origin: ScriptedOrigin, name: str) -> None:
    one, target = well(name), f"/missed-{name}"
    origin.answer(target, Reply(body=b"old"))
    asyncio.run(served(one, target))
    assert asyncio.run(served(one, target)) == ("old", "")
    origin.answer(target, Reply(body=b"new"))
    assert asyncio.run(served(one, target)) == ("old", ""), "it is stored"
    asyncio.run(missed(one.data, one.edge.url + target))
    assert asyncio.run(served(one, target)) == ("new", "")


def test_a_database_older_than_the_edge_is_refused(well: Callable[[str], Well]) -> None:
    """A start has marked both; then the database is replaced by one from before, which would give the canary a number that is in use."""
    one = well("squid")
    asyncio.run(served(one, "/marked"))
    with SlotFile(Path(one.edge.described.table), one.edge.described.slots, 0o644) as table:  # type: ignore[attr-defined]
        table.mark_lineage("of a later start")
    with pytest.raises(UserError, match="older than the edge squid"):
        asyncio.run(served(one, "/marked"))
    with SlotFile(Path(one.edge.described.table), one.edge.described.slots, 0o644) as table:  # type: ignore[attr-defined]
        table.mark_lineage("")


# In a fleet: its ledger would know nothing of a lease that the doctor lends, and call purges complete without that edge


def in_a_fleet(home: Path, **settings: Any) -> Config:
    return Config(data=str(home / "data"), edges=(Squid(name="front", canary=free_address(), table=str(home / "table")),), **settings)


def refused(config: Config) -> None:
    with pytest.raises(UserError, match="the edge front belongs to a fleet") as caught:
        asyncio.run(examine(config, config.edges[0], print))
    assert "before its first `agezero agent`" in caught.value.hint


def test_the_edge_of_a_fleet_is_refused(home: Path) -> None:
    refused(in_a_fleet(home, log=Log(url="nats://n1")))


def test_the_edge_of_a_fleet_is_refused_also_where_only_a_flag_named_the_log(home: Path) -> None:
    config = in_a_fleet(home)
    with prepare(config.data_dir), closing(open_database(config.data_dir)) as connection, open_edges(config) as edges:
        settle_edges(Lineage(connection), edges)
        edges[0].state.save(7, "of the fleet's log")
    refused(config)


def test_where_the_log_was_moved_to_a_fleet_there_is_none_to_examine_with(home: Path) -> None:
    config = in_a_fleet(home)
    with prepare(config.data_dir), closing(open_database(config.data_dir)) as connection:
        move(connection, "nats://n1")
    with pytest.raises(UserError, match="was moved to nats://n1"):
        asyncio.run(examine(config, config.edges[0], print))
