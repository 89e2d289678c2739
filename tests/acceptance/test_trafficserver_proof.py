"""A Traffic Server's agent can't be fooled: what it takes for a proof, who may ask for one, and what the doctor finds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from agezero.config.edges import TrafficServer
from agezero.edges.kinds import Finding
from agezero.edges.slots import SlotFile
from agezero.edges.trafficserver.examine import examine, program_findings
from agezero.edges.trafficserver.look import LOOK_PATH, digest
from agezero.ports import DriverFailed
from support.caches.trafficserver import PROGRAMS, TrafficServerEdge, running_trafficserver
from support.ports import free_address
from support.programs import require
from support.scripted import ScriptedOrigin


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    require(*PROGRAMS)


@pytest.fixture(scope="module")
def outside() -> str:
    """A port on which the other end says whose request it hands on (PROXY protocol)."""
    return free_address()


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, outside: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrafficServerEdge]:
    port = outside.rpartition(":")[2]
    with running_trafficserver(origin.url, tmp_path_factory.mktemp("ats"), more_ports=f"{port}:pp:ip-in=127.0.0.1") as running:
        yield running


# Proof


def test_another_table_is_no_proof(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with SlotFile(tmp_path / "other", 2**12) as other:
        other.readers.challenge()
        with (
            running_trafficserver(origin.url, tmp_path / "data", opened=False, table=other.path) as edge,
            pytest.raises(DriverFailed, match="reads another purge table than"),
        ):
            edge.open()


def test_a_table_that_is_not_there_is_no_proof(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with (
        running_trafficserver(origin.url, tmp_path, opened=False, table=tmp_path / "nowhere") as edge,
        pytest.raises(DriverFailed, match="cannot read the purge table"),
    ):
        edge.open()


def test_a_200_of_the_origin_is_no_proof(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_trafficserver(origin.url, tmp_path, opened=False, without=["plugins"]) as edge:
        with pytest.raises(DriverFailed, match="200, does not come from AgeZero's script"):
            edge.open()
        assert any(asked.target.startswith(LOOK_PATH) for asked in origin.asked)


def test_one_rule_without_the_script_is_no_proof(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_trafficserver(origin.url, tmp_path, hosts=["bare.test"], opened=False) as edge:
        edge.stop()
        rules = edge.home / "etc/remap.config"
        rules.write_text("".join(f"{line.partition(' @')[0] if 'bare.test' in line else line}\n" for line in rules.read_text().splitlines()))
        edge.start()
        with pytest.raises(DriverFailed, match=r"the answer for bare\.test, 200, does not come from"):
            edge.open()


def test_a_host_without_a_rule_is_named(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_trafficserver(origin.url, tmp_path, hosts=["absent.test"], opened=False) as edge:
        edge.stop()
        rules = edge.home / "etc/remap.config"
        rules.write_text("".join(f"{line}\n" for line in rules.read_text().splitlines() if "absent.test" not in line))
        edge.start()
        with pytest.raises(DriverFailed, match=r"no rule for absent\.test"):
            edge.open()


# The control path


def look_from(edge: TrafficServerEdge, outside: str, source: str) -> bytes:
    """A look with the right proof, from the address ``source``."""
    proof = digest(edge.slots.readers.challenge())
    host, port = outside.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as wire:
        request = f"GET {LOOK_PATH}{proof} HTTP/1.1\r\nHost: {edge.address}\r\nConnection: close\r\n\r\n"
        wire.sendall(f"PROXY TCP4 {source} 127.0.0.1 40000 {port}\r\n{request}".encode())
        with wire.makefile("rb") as answer:
            return answer.read()


def test_it_tells_nothing_to_the_outside(edge: TrafficServerEdge, outside: str, origin: ScriptedOrigin) -> None:
    assert b'"agezero":1' in look_from(edge, outside, "127.0.0.1"), "the test's own way in"
    before = len(origin.asked)
    said = look_from(edge, outside, "192.0.2.1")
    assert b"agezero" not in said.partition(b"\r\n\r\n")[2]
    assert origin.asked[before].target.startswith(LOOK_PATH), "it is a path like any other"


def test_it_tells_the_nonce_only_to_who_knows_the_table(edge: TrafficServerEdge) -> None:
    edge.slots.readers.challenge()
    wrong = edge.get(LOOK_PATH + digest(1)).json()
    assert wrong == {"agezero": 1, "nonce": "", "fault": "other-table"}


def test_a_proof_is_good_for_one_look(edge: TrafficServerEdge) -> None:
    nonce = edge.slots.readers.challenge()
    assert edge.get(LOOK_PATH + digest(nonce)).json()["nonce"] == str(nonce)
    edge.slots.readers.challenge()
    assert edge.get(LOOK_PATH + digest(nonce)).json()["nonce"] == ""


# The doctor's static part


def settings(edge: TrafficServerEdge, **changes: object) -> TrafficServer:
    return TrafficServer(**{**msgspec.structs.asdict(edge.described), **changes})


def faults(edge: TrafficServerEdge, **changes: object) -> list[Finding]:
    """Without those about the table's folder: pytest's are closed to others."""
    found = asyncio.run(examine(settings(edge, **changes), edge.table.parent))
    return [finding for finding in found if not finding.ok and "can be read by" not in finding.what]


def test_the_doctor_finds_an_address_of_another_machine(edge: TrafficServerEdge) -> None:
    assert "the control path is on this machine" in [finding.what for finding in faults(edge, control=f"localhost.:{edge.address.split(':')[1]}")]


def test_the_doctor_finds_an_old_program_and_a_missing_plugin(tmp_path: Path) -> None:
    (tmp_path / "conf_remap.so").touch()
    old, missing = program_findings("/usr/bin/traffic_server", "Traffic Server 8.1.1 Jan  1 2021", tmp_path)
    assert not old.ok
    assert "8.1.1; expected 9.0 or newer" in old.said
    assert (missing.ok, missing.said) == (False, f"{tmp_path} has no tslua.so")


def test_the_doctor_finds_a_table_that_others_may_not_read(edge: TrafficServerEdge, tmp_path: Path) -> None:
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    found = asyncio.run(examine(settings(edge, table=str(folder / "table")), folder))
    assert "can not be entered by others" in next(finding.said for finding in found if "can be read by" in finding.what)
