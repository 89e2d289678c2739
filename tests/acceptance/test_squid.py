"""Squid serves nothing purged when its helper fails, lags or dies: what each guard is for. The rest is in the common suite."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from agezero.edges.slots import SlotFile
from agezero.edges.squid.examine import examine, judge_version
from agezero.edges.squid.look import SquidLook
from agezero.edges.squid.proof import LOOK_PATH, digest
from agezero.ports import DriverFailed
from support.caches.squid import SquidEdge, running_squid
from support.programs import require
from support.scripted import Reply, ScriptedOrigin
from support.waiting import wait_for

NUMBERS = itertools.count()
URLS = 10_000
READERS = 4
require("squid")


@pytest.fixture(scope="module")
def squid(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SquidEdge]:
    with running_squid(origin.url, tmp_path_factory.mktemp("squid")) as edge:
        yield edge


@pytest.fixture
def target() -> str:
    return f"/s{next(NUMBERS)}"


def served(edge: SquidEdge, target: str) -> str:
    return edge.get(target).text


def store(edge: SquidEdge, origin: ScriptedOrigin, target: str) -> None:
    """The old one; afterwards the origin has the new one."""
    origin.answer(target, Reply(body=b"old"))
    assert {served(edge, target) for _ in range(2)} == {"old"}
    origin.answer(target, Reply(body=b"new"))


# The guards


CACHE, SEND = "cache deny !agezero_live", "send_hit deny !agezero_live"


@pytest.mark.parametrize("kind", ["die", "fail"])
@pytest.mark.parametrize(("without", "expected"), [((), "new"), ((CACHE,), "new"), ((SEND,), "new"), ((CACHE, SEND), "old")])
def test_a_helper_that_dies_or_fails(origin: ScriptedOrigin, target: str, tmp_path: Path, kind: str, without: tuple[str, ...], expected: str) -> None:
    """Squid falls back to the plain URL. Each of the two guards keeps it from serving what lies there; without both, what was purged comes back."""
    with running_squid(origin.url, tmp_path, without=without, faulty=True, store="") as edge:
        origin.answer(target, Reply(body=b"old"))
        edge.fault.write_text(kind)
        assert served(edge, target) == "old"  # stored under the plain URL, where nothing holds it off
        origin.answer(target, Reply(body=b"new"))
        edge.purge(target)
        edge.fault.write_text(kind)
        assert served(edge, target) == expected
        assert not edge.fault.exists()
        assert served(edge, target) == "new"
        edge.lease()


def test_a_hung_helper_holds_requests_up_and_serves_nothing_old(origin: ScriptedOrigin, target: str, tmp_path: Path) -> None:
    with running_squid(origin.url, tmp_path) as edge, ThreadPoolExecutor(1) as pool:
        store(edge, origin, target)
        (helper,) = edge.helpers
        os.kill(helper, signal.SIGSTOP)
        try:
            waiting = pool.submit(httpx.get, edge.url + target, timeout=60)
            with pytest.raises(DriverFailed, match="did not answer"):
                edge.call(_impatient(edge).nonce())
            edge.purge(target)
            assert not waiting.done()
        finally:
            os.kill(helper, signal.SIGCONT)
        assert waiting.result().text == "new"


BYPASS_ON = ("store_id_bypass off", "store_id_bypass on")
ONE_AT_A_TIME = ("concurrency=4000 queue-size=4000", "concurrency=1 queue-size=1")


def during_a_busy_helper(origin: ScriptedOrigin, target: str, data: Path, *edits: tuple[str, str], without: tuple[str, ...] = ()) -> str:
    """The answer to a request that comes while the helper has more to do than it can queue. What lies under the plain URL is old."""
    with running_squid(origin.url, data, without=without, edits=(ONE_AT_A_TIME, *edits), faulty=True, store="") as edge:
        origin.answer(target, Reply(body=b"old"))
        edge.fault.write_text("fail")
        assert served(edge, target) == "old"
        origin.answer(target, Reply(body=b"new"))
        edge.purge(target)
        (helper,) = edge.helpers
        os.kill(helper, signal.SIGSTOP)
        try:
            waiting = [_sent(edge, each) for each in (f"{target}/1", f"{target}/2", target)]
        finally:
            os.kill(helper, signal.SIGCONT)
        with closing(waiting[0]), closing(waiting[1]), closing(waiting[2]):
            *_, said = [connection.getresponse().read() for connection in waiting]
        return said.decode()


def _sent(edge: SquidEdge, target: str) -> HTTPConnection:
    """On return Squid has taken the request up: it has answered a later one, about which it asks no helper."""
    connection = HTTPConnection(edge.address, timeout=60)
    connection.request("GET", target)
    edge.client.post(f"{edge.url}/later")
    return connection


def test_a_busy_helper_is_waited_for(origin: ScriptedOrigin, target: str, tmp_path: Path) -> None:
    """``store_id_bypass off`` alone, and the guards alone, keep what lies under the plain URL from being served; without both it is."""
    assert during_a_busy_helper(origin, target, tmp_path / "off", without=(CACHE, SEND)) == "new"
    assert during_a_busy_helper(origin, target, tmp_path / "on", BYPASS_ON) == "new"
    assert during_a_busy_helper(origin, target, tmp_path / "none", BYPASS_ON, without=(CACHE, SEND)) == "old"


def test_a_helper_that_dies_again_and_again(origin: ScriptedOrigin, target: str, tmp_path: Path) -> None:
    with running_squid(origin.url, tmp_path / "0", faulty=True, store="") as edge:
        for number in range(3):
            edge.fault.write_text("die")
            assert served(edge, f"{target}/{number}") == "v1"
            assert not edge.fault.exists()
        store(edge, origin, target)


def test_with_startup_1_squid_takes_that_for_a_reason_to_end(origin: ScriptedOrigin, target: str, tmp_path: Path) -> None:
    with running_squid(origin.url, tmp_path, edits=(("startup=0", "startup=1"),), faulty=True, store="") as edge:
        for number in range(3):
            edge.fault.write_text("die")
            with suppress(httpx.TransportError):
                served(edge, f"{target}/{number}")
        wait_for(lambda: not edge.alive, "squid has ended")
        assert "crashing too rapidly" in edge.output


def _impatient(edge: SquidEdge) -> SquidLook:
    host, port = edge.options.control.rsplit(":", 1)
    return SquidLook((host, int(port)), edge.slots.path, timeout_s=0.5)


# The proof


@pytest.fixture
def other(squid: SquidEdge) -> Iterator[SlotFile]:
    """A table that is not the agent's, with a lease."""
    with SlotFile(squid.home / f"other{next(NUMBERS)}", 1024, 0o644) as table:
        table.readers.lease(time.monotonic_ns() + 3600 * 10**9)
        yield table


def test_another_table_is_found_out(origin: ScriptedOrigin, target: str, tmp_path: Path, other: SlotFile) -> None:
    with running_squid(origin.url, tmp_path, table=other.path, leased=False) as edge:
        with pytest.raises(DriverFailed, match="reads another purge table"):
            edge.open()
        store(edge, origin, target)
        edge.purge(target)
        assert served(edge, target) == "old", "the twin: an agent that did not ask would have confirmed this"


def test_a_table_that_cannot_be_read_is_found_out(origin: ScriptedOrigin, target: str, tmp_path: Path) -> None:
    with running_squid(origin.url, tmp_path, table=Path("/nonexistent/table"), leased=False) as edge:
        with pytest.raises(DriverFailed, match="cannot read the purge table"):
            edge.open()
        assert served(edge, target) == "v1"


def test_a_200_of_the_origin_is_no_proof(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_squid(origin.url, tmp_path, include=False, leased=False) as edge:
        nonce = edge.slots.readers.challenge()
        origin.answer(LOOK_PATH + digest(nonce), Reply(headers={"X": "1"}))
        with pytest.raises(DriverFailed, match=r"the answer, 200, does not come from AgeZero's helper in Squid\nhint: "):
            edge.open()


def test_an_origin_cannot_speak_for_squid(squid: SquidEdge, origin: ScriptedOrigin, target: str) -> None:
    origin.answer(target, Reply(headers={"AgeZero": "nonce=1", "Cache-Control": "max-age=60"}))
    assert "AgeZero" not in squid.get(target).headers


def test_the_agents_way_in_is_closed_to_others(squid: SquidEdge, origin: ScriptedOrigin, target: str) -> None:
    proof = LOOK_PATH + digest(squid.slots.readers.challenge())
    front = squid.get(proof)
    assert (front.status_code, "AgeZero" in front.headers) == (403, False), "the front is not the agent's port"
    control = f"http://{squid.options.control}"
    assert httpx.get(control + target).status_code == 403, "the agent's port serves nothing"
    assert httpx.get(f"{control}{LOOK_PATH}{'0' * 32}").headers["AgeZero"] == "fault=other-table", "who can't read the table learns nothing"
    assert httpx.get(control + proof).headers["AgeZero"].startswith("nonce=")
    assert not origin.count(proof)


# Keys


def test_encoded_slashes_are_not_decoded(squid: SquidEdge, origin: ScriptedOrigin, target: str) -> None:
    """Squid decodes what a helper does not quote."""
    origin.answer(f"{target}/a%2Fb", Reply(body=b"one"))
    origin.answer(f"{target}/a/b", Reply(body=b"other"))
    for _ in range(2):
        assert [served(squid, f"{target}/{end}") for end in ("a%2Fb", "a/b")] == ["one", "other"]


def test_without_the_quotes_one_takes_the_place_of_the_other(origin: ScriptedOrigin, target: str, tmp_path: Path) -> None:
    with running_squid(origin.url, tmp_path, without="quote", store="") as edge:
        origin.answer(f"{target}/a%2Fb", Reply(body=b"one"))
        origin.answer(f"{target}/a/b", Reply(body=b"other"))
        assert [served(edge, f"{target}/{end}") for end in ("a%2Fb", "a/b")] == ["one", "one"]


def test_one_spelling_cannot_fill_the_place_of_another(squid: SquidEdge, origin: ScriptedOrigin, target: str) -> None:
    origin.answer(f"{target}/x/%2e%2e/b", Reply(body=b"evil"))
    with closing(HTTPConnection(squid.address, timeout=60)) as connection:
        connection.request("GET", f"{target}/x/%2e%2e/b")
        connection.getresponse().read()
    assert served(squid, f"{target}/b") == "v1"


def test_a_post_invalidates_nothing(squid: SquidEdge, origin: ScriptedOrigin, target: str) -> None:
    """As the documentation says: Squid would invalidate the plain URL, where nothing is stored."""
    store(squid, origin, target)
    assert squid.client.post(squid.url + target).status_code < 500
    assert served(squid, target) == "old"


# Restarts


@pytest.mark.parametrize("store_line", ["ufs {} 64 4 16", "rock {} 64"])
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_disk_brings_nothing_back(origin: ScriptedOrigin, target: str, tmp_path: Path, store_line: str, how: str) -> None:
    with running_squid(origin.url, tmp_path, store=store_line) as edge:
        targets = [f"{target}/{number}" for number in range(5)]
        for one in targets:
            store(edge, origin, one)
        edge.purge(*targets[:3])
        getattr(edge, how)()
        edge.purge(targets[3])  # while it is away
        edge.start()
        assert [served(edge, one) for one in targets[:4]] == ["new"] * 4, "the lease is still running, the agent has not been back"
        kept = served(edge, targets[4])
        assert kept == "old" or how == "kill" or "rock" in store_line, "it was not purged, and it is on the disk"
        edge.fence()
        origin.answer(targets[4], Reply(body=b"newer"))
        assert served(edge, targets[4]) == "newer"


def test_reconfigured_it_has_forgotten_nothing(origin: ScriptedOrigin, target: str, tmp_path: Path) -> None:
    with running_squid(origin.url, tmp_path) as edge:
        store(edge, origin, target)
        edge.purge(target)
        edge.reconfigure()
        assert served(edge, target) == "new"
        edge.lease()


def test_a_table_that_begins_anew_is_found(origin: ScriptedOrigin, target: str, tmp_path: Path) -> None:
    with running_squid(origin.url, tmp_path) as edge:
        store(edge, origin, target)
        with SlotFile(edge.home / "fresh", edge.options.slots, 0o644) as fresh:
            edge.slots.readers.lease(0)  # as agezero.edges.slots does with the old one
            fresh.path.replace(edge.slots.path)
            nonce = fresh.readers.challenge()
            host, port = edge.options.control.rsplit(":", 1)
            look = SquidLook((host, int(port)), edge.slots.path)
            assert wait_for(lambda: _seen(edge, look) == nonce, "the helper maps the new table")
            assert served(edge, target) == "new"


def _seen(edge: SquidEdge, look: SquidLook) -> int:
    try:
        return edge.call(look.nonce())
    except DriverFailed:
        return 0


# Load


def old_with_three_helpers(origin: ScriptedOrigin, data: Path, trials: int, without: str = "") -> int:
    """In how many of ``trials`` the old one is served after its purge was confirmed."""
    one = "store_id_children 1 startup=0 idle=1 concurrency=4000"
    three = "store_id_children 3 startup=3 idle=3 concurrency=1"
    with running_squid(origin.url, data, without=without, edits=((one, three),), leased=False) as edge:
        wait_for(lambda: len(edge.helpers) == 3, "three helpers run")
        edge.open()
        one_purge = threading.Lock()

        def trial(number: int) -> bool:
            target = f"/helpers/{number}"
            store(edge, origin, target)
            with one_purge:
                edge.purge(target)
            return "old" in {served(edge, target) for _ in range(3)}

        with ThreadPoolExecutor(8) as pool:
            return sum(pool.map(trial, range(trials)))


def test_several_helpers_agree(origin: ScriptedOrigin, tmp_path: Path) -> None:
    assert old_with_three_helpers(origin, tmp_path, 200) == 0


def test_helpers_with_a_memory_of_their_own_do_not(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """The twin: without the one table for all, a purge is confirmed of which a helper knows nothing."""
    assert old_with_three_helpers(origin, tmp_path, 20, without="memory") > 0


def test_ten_thousand_urls_and_parallel_readers(squid: SquidEdge, origin: ScriptedOrigin) -> None:
    """URLs are purged while four readers read them in any order, and none of them sees the old one of a URL after that.

    Some 20 s: ten thousand URLs are fetched through one Squid, half of them again.
    """
    chance = random.Random(1)
    purged: dict[int, None] = {}

    def read(seed: int, share: int = URLS // 4) -> list[int]:
        order, old = list(range(URLS)), []
        random.Random(seed).shuffle(order)
        with closing(HTTPConnection(squid.address, timeout=60)) as connection:
            for number in order[:share]:
                gone = number in purged
                connection.request("GET", f"/many/{number}")
                if gone and connection.getresponse().read() == b"v1":
                    old.append(number)
                elif not gone:
                    connection.getresponse().read()
        return old

    with ThreadPoolExecutor(READERS) as pool:
        assert not any(pool.map(read, range(READERS), itertools.repeat(URLS // 2)))
        again = [pool.submit(read, seed) for seed in range(READERS)]
        for number in chance.sample(range(URLS), 300):
            origin.answer(f"/many/{number}", Reply(body=b"v2"))
            squid.purge(f"/many/{number}")
            purged[number] = None
        assert [old for reader in again for old in reader.result()] == []
    assert squid.helpers, "and the helper lives"


# What the doctor sees


def faults(edge: SquidEdge) -> dict[str, str]:
    return {finding.what: finding.said + finding.fix for finding in asyncio.run(examine(edge.options, edge.home)) if not finding.ok}


def test_a_table_closed_to_squids_user_is_a_finding(squid: SquidEdge) -> None:
    squid.slots.path.chmod(0o600)
    try:
        assert "closed to other users" in faults(squid)["the purge table"]
    finally:
        squid.slots.path.chmod(0o644)


def test_an_old_squid_is_a_finding() -> None:
    assert not judge_version("version", "Squid Cache: Version 4.13\n").ok
    assert not judge_version("version", "").ok
    assert judge_version("version", "Squid Cache: Version 5.7\n").ok
