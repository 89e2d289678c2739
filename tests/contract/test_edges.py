"""Every cache keeps the promise: once a purge was confirmed, no request that comes later is answered with what was stored, or being fetched, before.

One suite over all drivers, with the real programs. What a driver can't do exactly is widened as the follower widens it: then the suite asserts
that what was named is gone, and leaves open what went with it.
"""

from __future__ import annotations

import gzip
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.ports import DriverFailed
from support.caches.all import CACHES, CacheCase
from support.caches.base import CacheEdge
from support.caches.races import old_responses, raced
from support.scripted import Asked, Gate, Reply, ScriptedOrigin, scripted_origin
from support.seeds import seed_of

TRIALS = 1000
Headers = dict[str, str | list[str]]
FRESH: Headers = {"Cache-Control": "max-age=3600"}
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def origin() -> Iterator[ScriptedOrigin]:
    with scripted_origin() as running:
        yield running


@pytest.fixture(scope="module", params=CACHES)
def case(request: pytest.FixtureRequest) -> CacheCase:
    return CACHES[request.param]


@pytest.fixture(scope="module")
def cache(case: CacheCase, origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheEdge]:
    with case.start(origin.url, tmp_path_factory.mktemp("cache")) as running:
        yield running


@pytest.fixture
def folder() -> str:
    """A path that no test has used."""
    return f"/t{next(NUMBERS)}/"


def fetches(cache: CacheEdge, origin: ScriptedOrigin, target: str, **headers: str) -> bool:
    """Does a GET reach the origin?"""
    before = len(origin.asked)
    assert cache.get(target, **headers).status_code < 500
    return len(origin.asked) > before


def stored(cache: CacheEdge, origin: ScriptedOrigin, *targets: str, **headers: str) -> None:
    for target in targets:
        fetches(cache, origin, target, **headers)
        assert not fetches(cache, origin, target, **headers), f"{target} is not cached"


# Selectors


def test_a_url_is_purged_and_no_other(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    targets = [folder + name for name in ("a", "a?q=1", "a/b", "ab")]
    stored(cache, origin, *targets)
    cache.purge(folder + "a")
    assert [fetches(cache, origin, target) for target in targets] == [True, False, False, False]


def test_a_query_is_part_of_the_url(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    targets = [folder + name for name in ("a?q=1", "a?q=2", "a")]
    stored(cache, origin, *targets)
    cache.purge(folder + "a?q=1")
    assert [fetches(cache, origin, target) for target in targets] == [True, False, False]


@pytest.mark.parametrize("prefix", ["", "d/", "d/fi", "d/file.jpg?w=1"])
def test_a_prefix_is_purged_and_nothing_else(cache: CacheEdge, origin: ScriptedOrigin, folder: str, prefix: str) -> None:
    names = ["d/", "d/file.jpg", "d/file.jpg?w=1", "d/file.jpg?w=10", "d/s/file.jpg"]
    outside = f"/t{next(NUMBERS)}/d/file.jpg"
    stored(cache, origin, outside, *(folder + name for name in names))
    cache.purge(folder + prefix + "*")
    assert {name for name in names if fetches(cache, origin, folder + name)} == {name for name in names if name.startswith(prefix)}
    assert not fetches(cache, origin, outside)


def test_a_host_is_purged(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    stored(cache, origin, folder + "a", folder + "b")
    cache.purge(Selector(Kind.HOST, cache.host))
    assert all(fetches(cache, origin, folder + name) for name in "ab")


def test_everything_is_purged(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    stored(cache, origin, folder + "a", folder + "b?q")
    cache.purge(EVERYTHING)
    assert all(fetches(cache, origin, folder + name) for name in ("a", "b?q"))


def test_a_tag_is_purged(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    """Exactly, or with everything else: never less."""
    tagged = {"a": "sale red", "b": "red", "c": "sales"}
    for name, tags in tagged.items():
        separated: Headers = {"Surrogate-Key": tags, "xkey": tags, "Cache-Tag": tags.replace(" ", ",")}
        origin.answer(folder + name, Reply(headers={**FRESH, **separated}))
    stored(cache, origin, *(folder + name for name in tagged))
    cache.purge(Selector(Kind.TAG, "sale"))
    assert fetches(cache, origin, folder + "a")
    if Kind.TAG in cache.driver.capabilities.exact:
        assert not fetches(cache, origin, folder + "b")
        assert not fetches(cache, origin, folder + "c")


def test_a_soft_purge_is_revalidated_or_gone(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    """Soft: the stale one may be served once more, while it is fetched anew. Where that cannot be done it is hard."""
    swr: Headers = {"Cache-Control": "max-age=3600, stale-while-revalidate=600"}
    origin.answer(folder + "a", Reply(headers=swr, body=b"old"))
    stored(cache, origin, folder + "a")
    origin.answer(folder + "a", Reply(headers=swr, body=b"new"))
    cache.purge(folder + "a", soft=True)
    first = cache.get(folder + "a")
    assert first.text == "new" or cache.driver.capabilities.soft
    seen = {cache.get(folder + "a").text for _ in range(200)} | {cache.get(folder + "a").text}
    assert "new" in seen


def test_a_purge_of_what_is_not_cached_is_confirmed_too(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    cache.purge(folder + "never")
    stored(cache, origin, folder + "never")


def test_many_purges_at_once(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    targets = [f"{folder}{number}" for number in range(50)]
    stored(cache, origin, *targets, folder + "other")
    cache.purge(*targets)
    assert all(fetches(cache, origin, target) for target in targets)
    assert not fetches(cache, origin, folder + "other")


# What is stored under one URL


def test_every_variant_is_purged(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    def vary(asked: Asked) -> Reply:
        body = f"{asked.headers['X-A']} {asked.headers['X-B']}".encode()
        return Reply(headers={**FRESH, "Vary": "X-A, X-B"}, body=body)

    target = folder + "varies"
    origin.answer(target, vary)
    variants = [{"X_A": a, "X_B": b} for a in "12" for b in "34"]
    for variant in variants:
        stored(cache, origin, target, **variant)
        assert cache.get(target, **variant).text == " ".join(variant.values())
    cache.purge(target)
    assert all(fetches(cache, origin, target, **variant) for variant in variants)


def test_an_encoded_variant_is_purged(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    def encode(asked: Asked) -> Reply:
        vary: Headers = {**FRESH, "Vary": "Accept-Encoding", "Content-Type": "text/plain"}
        if "gzip" not in asked.headers.get("Accept-Encoding", ""):
            return Reply(headers=vary, body=b"text" * 500)
        return Reply(headers={**vary, "Content-Encoding": "gzip"}, body=gzip.compress(b"text" * 500))

    target = folder + "encoded"
    origin.answer(target, encode)
    for encoding in ("gzip", "identity"):
        stored(cache, origin, target, Accept_Encoding=encoding)
    cache.purge(target)
    before = origin.count(target)
    for encoding in ("gzip", "identity"):
        assert cache.get(target, Accept_Encoding=encoding).text == "text" * 500
    assert origin.count(target) > before


def test_head_and_ranges_are_of_the_purged_object_too(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    target = folder + "whole"
    origin.answer(target, Reply(body=b"o" * 100))
    stored(cache, origin, target)
    part = cache.get(target, Range="bytes=10-19")
    assert (part.status_code, part.text) == (206, "o" * 10)
    origin.answer(target, Reply(body=b"n" * 90))
    cache.purge(target)
    assert cache.client.head(cache.url + target).headers["Content-Length"] == "90"
    assert set(cache.get(target, Range="bytes=10-19").text) == {"n"}  # all of it, where the origin was asked and knows no ranges


@pytest.mark.parametrize(("status", "headers"), [(301, {"Location": "/elsewhere"}), (404, {}), (410, {})])
def test_redirects_and_errors_that_were_cached_are_purged(
    cache: CacheEdge, origin: ScriptedOrigin, folder: str, status: int, headers: Headers
) -> None:
    target = folder + "status"
    origin.answer(target, Reply(status=status, headers={**FRESH, **headers}))
    stored(cache, origin, target)
    cache.purge(target)
    assert fetches(cache, origin, target)


SPELLINGS = ("a%20b/%7Ec?d=%2f", "a%20b/~c?d=%2F", "a%20b/%7ec?d=%2f", "%61%20b/~c?d=%2f")


def test_every_spelling_of_a_url_is_purged(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    """A spelling may have an object of its own, or none; it never has the old one."""
    for spelling in SPELLINGS * 2:
        cache.get(folder + spelling)
    cache.purge(folder + "a b/~c?d=%2f")
    for spelling in SPELLINGS:
        origin.answer(folder + spelling, Reply(body=b"new"))
    assert [cache.get(folder + spelling).text for spelling in SPELLINGS] == ["new"] * len(SPELLINGS)


def test_the_host_is_purged_in_every_spelling(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    name, port = cache.host.rsplit(":", 1)
    spellings = [cache.host, f"{name}.:{port}" if not name[-1].isdigit() else cache.host]
    for host in spellings:
        cache.get(folder + "h", Host=host)
    cache.purge(folder + "h")
    for host in spellings:
        origin.answer(folder + "h", Reply(body=b"new"))
        assert cache.get(folder + "h", Host=host).text == "new"


# The in-flight race


@pytest.mark.parametrize("place", ["before_head", "in_body"])
@pytest.mark.parametrize("kind", ["url", "prefix", "host", "everything"])
def test_what_was_in_flight_is_not_served(cache: CacheEdge, origin: ScriptedOrigin, folder: str, place: str, kind: str) -> None:
    selectors: dict[str, str | Selector] = {
        "url": folder + "r",
        "prefix": folder + "*",
        "host": Selector(Kind.HOST, cache.host),
        "everything": EVERYTHING,
    }
    assert raced(cache, origin, folder + "r", place, selectors[kind]) == "new"


@pytest.mark.parametrize("place", ["before_head", "in_body"])
def test_a_tagged_object_in_flight_is_not_served(cache: CacheEdge, origin: ScriptedOrigin, folder: str, place: str) -> None:
    gate = Gate()
    tags: Headers = {**FRESH, "Surrogate-Key": "flying", "xkey": "flying", "Cache-Tag": "flying"}
    old = Reply(headers=tags, body=b"old" * 10_000)
    setattr(old, place, gate)
    origin.answer(folder + "r", old)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.get, cache.url + folder + "r", timeout=60)
        assert gate.reached.wait(30)
        origin.answer(folder + "r", Reply(headers=tags, body=b"new"))
        cache.purge(Selector(Kind.TAG, "flying"))
        gate.open.set()
        waiting.result()
    assert {cache.get(folder + "r").text[:3] for _ in range(3)} == {"new"}


def test_a_purge_at_any_moment_of_a_fetch(cache: CacheEdge, origin: ScriptedOrigin, request: pytest.FixtureRequest) -> None:
    """A thousand trials: it takes some ten seconds per cache."""
    seed = seed_of(request)
    assert old_responses(cache, origin, seed, TRIALS) == [], f"seed {seed}"


def test_without_its_safeguard_the_race_is_lost(case: CacheCase, origin: ScriptedOrigin, folder: str, tmp_path: Path) -> None:
    assert case.race is not None
    with case.start(origin.url, tmp_path, **case.race) as unsafe:
        assert raced(unsafe, origin, folder + "r", "before_head", folder + "r", herd=1) == "old"


def test_a_revalidation_in_flight_does_not_bring_the_old_object_back(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    """The origin confirms the old object with 304 after the purge was asked for: it had read it before."""
    target, gate = folder + "v", Gate()
    headers: Headers = {"Cache-Control": "max-age=1", "ETag": '"1"', "Last-Modified": formatdate(1_000_000_000, usegmt=True)}

    def confirm(asked: Asked) -> Reply:
        if asked.headers.get("If-None-Match") or asked.headers.get("If-Modified-Since"):
            return Reply(status=304, headers=headers, body=b"", before_head=gate)
        return Reply(headers=headers, body=b"old", before_head=gate)

    origin.answer(target, Reply(headers=headers, body=b"old"))
    cache.get(target)
    threading.Event().wait(2.1)  # until it is stale: its age is what the test is about
    origin.answer(target, confirm)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(httpx.get, cache.url + target, timeout=60)
        assert gate.reached.wait(30)
        origin.answer(target, Reply(body=b"new"))
        cache.purge(target)
        gate.open.set()
        waiting.result()
    assert {cache.get(target).text for _ in range(3)} == {"new"}


# The fence


def test_fenced_it_bypasses_and_comes_back(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    assert cache.driver.capabilities.fences
    stored(cache, origin, folder + "f")
    cache.fence()
    assert all(fetches(cache, origin, folder + "f") for _ in range(3))
    cache.purge(folder + "f")
    cache.lease()
    origin.answer(folder + "f", Reply(body=b"new"))
    assert cache.get(folder + "f").text == "new"
    stored(cache, origin, folder + "f")


def test_a_lease_runs_out_by_itself(cache: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    stored(cache, origin, folder + "f")
    cache.lease(1.0)
    threading.Event().wait(1.3)  # what runs out is time itself
    assert all(fetches(cache, origin, folder + "f") for _ in range(3))
    cache.lease()


def test_without_its_fence_it_serves_on(case: CacheCase, origin: ScriptedOrigin, tmp_path: Path) -> None:
    assert case.fence is not None
    with case.start(origin.url, tmp_path, **case.fence) as unsafe:
        target = f"/unfenced{next(NUMBERS)}"
        stored(unsafe, origin, target)
        unsafe.fence()
        assert not fetches(unsafe, origin, target)


# When the program fails


@pytest.fixture
def own(case: CacheCase, origin: ScriptedOrigin, tmp_path: Path) -> Iterator[CacheEdge]:
    """One that may be broken."""
    with case.start(origin.url, tmp_path) as running:
        yield running


def test_restarted_it_serves_nothing_that_was_purged(own: CacheEdge, origin: ScriptedOrigin, folder: str) -> None:
    stored(own, origin, folder + "gone", folder + "kept")
    own.purge(folder + "gone")
    own.restart()
    for name in ("gone", "kept"):
        origin.answer(folder + name, Reply(body=b"new"))
    assert own.get(folder + "gone").text == "new", "before its agent has come back"
    own.open()
    assert own.get(folder + "gone").text == "new"
    stored(own, origin, folder + "gone")


def test_a_cache_that_is_gone_is_a_failure_in_words(own: CacheEdge) -> None:
    own.stop()
    with pytest.raises(DriverFailed, match=r"\w+ \w+ \w+"):
        own.call(own.driver.probe())
    own.start()
    own.open()


def test_a_cache_that_hangs_is_a_failure(own: CacheEdge) -> None:
    """Some 10 s where a driver is patient for so long."""
    own.freeze()
    try:
        with pytest.raises(DriverFailed):
            own.call(own.driver.probe())
    finally:
        own.thaw()
    own.open()
