"""A purge reaches an object under every URL that Traffic Server takes for the one named: it drops parts of some before any script sees them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from support.caches.trafficserver import PROGRAMS, TrafficServerEdge, running_trafficserver
from support.programs import require
from support.scripted import Reply, ScriptedOrigin, scripted_origin

NUMBERS = itertools.count()
DROPPED = [("{}?", "{}"), ("{};", "{}"), ("{};?", "{}"), ("{};?q", "{}?q"), ("/{}", "{}"), ("//{}", "/{}"), ("{}#f", "{}")]
"""Two URLs that are one to it. (The fragment is no part of a URL to us either, so that one needs no second spelling.)"""
PREFIXES = ["{}?*", "{};*", "{};?q*", "/{}*"]


@pytest.fixture(scope="module")
def origin() -> Iterator[ScriptedOrigin]:
    require(*PROGRAMS)
    with scripted_origin() as running:
        yield running


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrafficServerEdge]:
    with running_trafficserver(origin.url, tmp_path_factory.mktemp("ats")) as running:
        yield running


@pytest.fixture(scope="module")
def literal(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrafficServerEdge]:
    """The twin: its driver writes only what was named."""
    with running_trafficserver(origin.url, tmp_path_factory.mktemp("ats"), without=["spellings"]) as running:
        yield running


@pytest.fixture
def target() -> str:
    return f"/a{next(NUMBERS)}"


def purged(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str, what: str, asked: list[str]) -> list[str]:
    """What is served for ``asked`` after the purge of ``what``. All are spellings of ``target``, and were stored before."""
    urls = [spelling.format(target) for spelling in asked]
    for url in urls * 2:
        edge.get_raw(url)
    for spelling in ("{}", "{}?q", "{};", "{}?", "{};?q", "/{}"):
        origin.answer(spelling.format(target), Reply(body=b"new"))
    edge.purge(what.format(target))
    return [edge.get_raw(url) for url in urls]


@pytest.mark.parametrize(("named", "other"), DROPPED)
def test_what_traffic_server_drops_of_a_url_does_not_hide_it(
    edge: TrafficServerEdge, origin: ScriptedOrigin, target: str, named: str, other: str
) -> None:
    """It serves the second object for the first URL."""
    assert purged(edge, origin, target, named, [named, other]) == ["new", "new"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_nor_from_a_prefix(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str, prefix: str) -> None:
    assert purged(edge, origin, target, prefix, [prefix.rstrip("*")]) == ["new"]


@pytest.mark.parametrize("named", [*(named for named, _ in DROPPED if "#" not in named), *PREFIXES])
def test_without_its_spellings_a_purge_misses_what_it_names(literal: TrafficServerEdge, origin: ScriptedOrigin, target: str, named: str) -> None:
    assert purged(literal, origin, target, named, [named.rstrip("*")]) == ["v1"]


@pytest.mark.parametrize("dots", ["/.;", "/..;", "/%2e;", "/.", "/x/%2E%2e"])
def test_what_ends_in_dots_is_not_cached(edge: TrafficServerEdge, origin: ScriptedOrigin, target: str, dots: str) -> None:
    before = len(origin.asked)
    for _ in range(3):
        edge.get_raw(target + dots)
    assert len(origin.asked) == before + 3
