"""Traffic Server serves nothing purged, by any key, lease or failure of its script: what each safeguard is for. See tests/contract too."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from agezero.core.purge import Purge
from agezero.core.selector import parse_url
from agezero.edges.lua import LIBRARY
from agezero.ports import DriverFailed
from support.caches.trafficserver import PROGRAMS, TrafficServerEdge, running_trafficserver
from support.programs import require
from support.scripted import Gate, Reply, ScriptedOrigin
from support.seeds import seed_of
from support.waiting import wait_for

NUMBERS = itertools.count()
COLLAPSE = """
CONFIG proxy.config.cache.enable_read_while_writer INT 1
CONFIG proxy.config.http.cache.max_open_read_retries INT 50
CONFIG proxy.config.http.cache.open_read_retry_time INT 20
CONFIG proxy.config.http.cache.open_write_fail_action INT 5
CONFIG proxy.config.http.background_fill_active_timeout INT 0
CONFIG proxy.config.http.background_fill_completed_threshold FLOAT 0.0
"""
TRUNCATED = 2**32


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    require(*PROGRAMS)


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrafficServerEdge]:
    """Herds wait for one fetch here, and what a client breaks off is fetched on."""
    with running_trafficserver(origin.url, tmp_path_factory.mktemp("ats"), records=COLLAPSE) as running:
        yield running


@pytest.fixture
def target() -> str:
    return f"/a{next(NUMBERS)}"


def stored(edge: TrafficServerEdge, target: str, **headers: str) -> httpx.Response:
    edge.get(target, **headers)
    answer = edge.get(target, **headers)
    assert edge.is_hit(answer), f"{target} is not cached: {answer.headers['Via']}"
    return answer


def old_then_purged(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str) -> None:
    """The old object is in the cache, the new one at the origin, and the purge was confirmed."""
    origin.answer(target, Reply(body=b"old"))
    stored(edge, target)
    origin.answer(target, Reply(body=b"new"))
    edge.purge(target)


# The race


@pytest.mark.parametrize("place", ["before_head", "in_body"])
def test_a_herd_that_waits_for_one_fetch(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str, place: str) -> None:
    gate = Gate()
    old = Reply(body=b"old" * 20_000)
    setattr(old, place, gate)
    origin.answer(target, old)
    with ThreadPoolExecutor(6) as pool:
        herd = [pool.submit(httpx.get, edge.url + target, timeout=60) for _ in range(6)]
        assert gate.reached.wait(30)
        origin.answer(target, Reply(body=b"new"))
        edge.purge(target)
        assert edge.get(target).text == "new"
        gate.open.set()
        assert {one.result().text[:3] for one in herd} <= {"old", "new"}
    assert [edge.get(target).text for _ in range(3)] == ["new"] * 3


@pytest.mark.parametrize("place", ["before_head", "in_body"])
def test_a_fetch_that_takes_longer_than_a_second(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str, place: str) -> None:
    """Traffic Server's own PURGE waits for a writer that long, and no longer."""
    gate = Gate()
    old = Reply(body=b"old" * 20_000)
    setattr(old, place, gate)
    origin.answer(target, old)
    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(httpx.get, edge.url + target, timeout=60)
        assert gate.reached.wait(30)
        origin.answer(target, Reply(body=b"new"))
        edge.purge(target)
        threading.Event().wait(1.2)  # time is what this test is about
        gate.open.set()
        early.result()
    assert {edge.get(target).text for _ in range(3)} == {"new"}


def test_a_fetch_that_its_client_broke_off(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str) -> None:
    """Traffic Server goes on fetching in the background, and stores."""
    gate = Gate()
    origin.answer(target, Reply(body=b"old" * 20_000, in_body=gate))
    with httpx.stream("GET", edge.url + target):
        assert gate.reached.wait(30)
        origin.answer(target, Reply(body=b"new"))
        edge.purge(target)
    gate.open.set()
    assert {edge.get(target).text for _ in range(5)} == {"new"}


def test_purges_at_random_moments_of_short_fetches(edge: TrafficServerEdge, origin: ScriptedOrigin, request: pytest.FixtureRequest) -> None:
    """Some 10 s: many races, each with a slow fetch."""
    chance = random.Random(seed_of(request))

    def race(number: int) -> list[str]:
        target, slow_s, gate = f"/race/{number}", chance.uniform(0.05, 0.3), Gate()
        old = Reply(body=b"old" * 2000)
        setattr(old, chance.choice(["before_head", "in_body"]), gate)
        origin.answer(target, old)
        with ThreadPoolExecutor(2) as pool:
            herd = [pool.submit(httpx.get, edge.url + target, timeout=60) for _ in range(2)]
            assert gate.reached.wait(30)
            opening = threading.Timer(slow_s, gate.open.set)
            opening.start()
            threading.Event().wait(chance.uniform(0, slow_s))
            origin.answer(target, Reply(body=b"new"))
            with one_agent:
                edge.purge(target)
            seen = [httpx.get(edge.url + target).text[:3]]
            for one in herd:
                one.result()
            opening.join()
        return [*seen, *(httpx.get(edge.url + target).text[:3] for _ in range(2))]

    one_agent = threading.Lock()
    with ThreadPoolExecutor(8) as pool:
        seen = list(itertools.chain.from_iterable(pool.map(race, range(48))))
    assert set(seen) == {"new"}, f"{seen.count('old')} of {len(seen)}"


# The key


def test_the_whole_number_is_in_the_key(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str) -> None:
    origin.answer(target, Reply(body=b"old"))
    assert leap(edge, origin, target) == "new"


def test_by_generation_alone_two_numbers_are_one(origin: ScriptedOrigin, tmp_path: Path, target: str) -> None:
    """The twin: ts_lua passes 32 bits of it on."""
    with running_trafficserver(origin.url, tmp_path, without=["generation"]) as cut:
        assert leap(cut, origin, target) == "old"


def leap(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str) -> str:
    """What is served once the number for ``target`` has risen by exactly 2^32."""
    what = parse_url(edge.url + target)
    seq = edge.slots.watermark + 1
    edge.call(edge.driver.apply([Purge(seq, what)]))
    origin.answer(target, Reply(body=b"old"))
    stored(edge, target)
    origin.answer(target, Reply(body=b"new"))
    edge.call(edge.driver.apply([Purge(seq + TRUNCATED, what)]))
    return edge.get(target).text


def test_an_absolute_target_means_its_own_host(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str) -> None:
    absolute = edge.url + target
    origin.answer(target, Reply(body=b"old"))
    assert [edge.get_raw(absolute), edge.get_raw(target)] == ["old", "old"]
    origin.answer(target, Reply(body=b"new"))
    edge.purge(target)
    assert [edge.get_raw(absolute), edge.get_raw(target)] == ["new", "new"]


def test_a_key_of_the_users_own_is_extended(origin: ScriptedOrigin, tmp_path: Path, target: str) -> None:
    between = "@plugin=cachekey.so @pparam=--static-prefix=mine @pparam=--remove-all-params=true"
    with running_trafficserver(origin.url, tmp_path, between=between) as edge:
        edge.get(f"{target}?a")
        assert edge.is_hit(edge.get(f"{target}?b")), "cachekey takes the query out of the key"
        origin.answer(f"{target}?b", Reply(body=b"new"))
        edge.purge(f"{target}*")
        assert edge.get(f"{target}?b").text == "new"


def test_an_unsafe_method_invalidates(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str) -> None:
    """Traffic Server does that by itself, under our key too."""
    stored(edge, target)
    origin.answer(target, Reply(body=b"new"))
    edge.client.post(edge.url + target, content=b"x")
    assert not edge.is_hit(edge.get(target))


# Failing closed


def test_an_error_in_the_script_bypasses(origin: ScriptedOrigin, tmp_path: Path, target: str) -> None:
    assert after_an_error(origin, tmp_path, target, set()) == ["new", "new"]


@pytest.mark.parametrize("left", ["raw", "closed"])
def test_one_of_its_two_guards_is_enough(origin: ScriptedOrigin, tmp_path: Path, target: str, left: str) -> None:
    """The cache that is off until the script turns it on, and the script that catches its errors."""
    assert after_an_error(origin, tmp_path, target, {left}) == ["new", "new"]


def test_without_its_guards_what_was_purged_comes_back(origin: ScriptedOrigin, tmp_path: Path, target: str) -> None:
    """ts_lua logs an error and goes on, with the plain key."""
    assert after_an_error(origin, tmp_path, target, {"raw", "closed"})[1] == "old"


def after_an_error(origin: ScriptedOrigin, tmp_path: Path, target: str, without: set[str]) -> list[str]:
    """The script fails for every request: first while the old object is there, then once it was purged."""
    with running_trafficserver(origin.url, tmp_path, opened=False, without={"error", *without}) as edge:
        origin.answer(target, Reply(body=b"old"))
        for _ in range(2):
            edge.get(target)
        origin.answer(target, Reply(body=b"new"))
        edge.slots.purge_everything(1)
        seen = [edge.get(target).text for _ in range(2)]
        assert "made to fail" in wait_for(edge.errors, "the error log")
        return seen


@pytest.mark.parametrize("file", LIBRARY)
def test_without_its_library_it_bypasses_and_the_agent_knows(origin: ScriptedOrigin, tmp_path: Path, target: str, file: str) -> None:
    with running_trafficserver(origin.url, tmp_path) as edge:
        old_then_purged(edge, origin, target)
        (edge.options.folder / file).write_text("no Lua")
        edge.restart()
        with pytest.raises(DriverFailed, match="does not come from AgeZero's script"):
            edge.open()
        for body in (b"1", b"2"):
            origin.answer(target, Reply(body=body))
            assert edge.get(target).text == body.decode()
        assert "the cache is bypassed" in edge.errors()


def test_without_its_script_it_does_not_start(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_trafficserver(origin.url, tmp_path) as edge:
        edge.stop()
        (edge.options.folder / "agezero_trafficserver.lua").unlink()
        edge.launch()
        assert edge.process is not None
        assert edge.process.wait(30) != 0


@pytest.mark.parametrize("broken", [False, True])
def test_a_reload_neither_forgets_nor_opens(origin: ScriptedOrigin, tmp_path: Path, target: str, broken: bool) -> None:
    """New Lua states map the table anew. A script that cannot be loaded leaves the rules as they were."""
    with running_trafficserver(origin.url, tmp_path, manager=True) as edge:
        old_then_purged(edge, origin, target)
        if broken:
            (edge.options.folder / "agezero_trafficserver.lua").write_text("no Lua")
        edge.rules = "# another line"
        edge.write_rules()
        edge.reload()
        done = "remap.config failed to load" if broken else "remap.config finished loading"
        texts, loaded = set(), edge.errors().count(done)
        while edge.errors().count(done) == loaded:
            texts.add(edge.get(target).text)
        assert texts | {edge.get(target).text for _ in range(40)} == {"new"}
        assert edge.call(edge.driver.probe())
        assert edge.is_hit(edge.get(target))


# The lease


def test_the_table_comes_before_the_lease(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str) -> None:
    origin.answer(target, Reply(body=b"old"))
    stored(edge, target)
    edge.fence()
    origin.answer(target, Reply(body=b"new"))
    edge.purge(target)
    edge.lease()
    assert edge.get(target).text == "new"


def test_a_lease_before_the_table_brings_the_old_one_back(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str) -> None:
    """The twin."""
    origin.answer(target, Reply(body=b"old"))
    stored(edge, target)
    edge.fence()
    origin.answer(target, Reply(body=b"new"))
    edge.lease()
    assert edge.get(target).text == "old"
    edge.purge(target)
    assert edge.get(target).text == "new"


def test_killed_it_comes_back_with_its_disk_and_the_table(origin: ScriptedOrigin, tmp_path: Path, target: str) -> None:
    with running_trafficserver(origin.url, tmp_path) as edge:
        stored(edge, f"{target}/kept")
        old_then_purged(edge, origin, target)
        threading.Event().wait(4)  # until its directory is on the disk; it says to nobody when
        edge.kill()
        edge.start()
        assert edge.is_hit(edge.get(f"{target}/kept")), "the lease goes on, and the object was on its disk"
        assert edge.get(target).text == "new"


def test_an_agent_that_starts_again_fences_first(origin: ScriptedOrigin, tmp_path: Path, target: str) -> None:
    with running_trafficserver(origin.url, tmp_path) as edge:
        stored(edge, target)
        edge.new_agent()
        assert not edge.is_hit(edge.get(target)), "a table, and no lease"
        edge.open()
        assert edge.is_hit(edge.get(target))


def test_a_table_that_begins_anew_is_found(origin: ScriptedOrigin, tmp_path: Path, target: str) -> None:
    """It is another file at the same path; who still has the old one is fenced. Each Lua state finds out for itself."""
    with running_trafficserver(origin.url, tmp_path) as edge:
        old_then_purged(edge, origin, target)
        stored(edge, target)
        edge.new_agent(slots=2**12)
        assert edge.slots.doubt
        edge.open()
        origin.answer(target, Reply(body=b"newer"))
        assert {edge.get(target).text for _ in range(40)} == {"newer"}
        wait_for(lambda: all(edge.is_hit(edge.get(target)) for _ in range(40)), "all states to have mapped the new table")
