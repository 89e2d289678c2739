"""A user of nginx purges in every zone and every worker at once, whatever reads the purge table in it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import pytest

from support.caches.nginx_lua import NGINX, running_nginx_lua
from support.caches.nginx_njs import running_nginx_njs
from support.caches.nginx_own import OwnNginxEdge
from support.programs import require
from support.scripted import Reply, ScriptedOrigin

READERS: dict[str, tuple[Callable[..., AbstractContextManager[Any]], tuple[str, ...]]] = {
    "lua": (running_nginx_lua, tuple(NGINX)),
    "njs": (running_nginx_njs, ()),
}
"""How each is started, and the programs that it needs."""


@pytest.fixture(scope="module", params=READERS)
def edge(request: pytest.FixtureRequest, origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNginxEdge]:
    start, programs = READERS[request.param]
    require(*programs)
    with start(origin.url, tmp_path_factory.mktemp("edge"), workers=3) as running:
        yield running


def served(edge: OwnNginxEdge, target: str) -> tuple[str, str]:
    answer = edge.get(target)
    return answer.text, answer.headers["X-Cache"]


@pytest.mark.parametrize("target", ["/z/a", "/two/a"])
def test_both_zones_and_every_worker_forget_at_once(edge: OwnNginxEdge, origin: ScriptedOrigin, target: str) -> None:
    for version in range(20):
        origin.answer(target, Reply(body=f"v{version}".encode()))
        edge.purge(target)
        with ThreadPoolExecutor(8) as pool:  # a connection each: all workers
            assert set(pool.map(lambda _: edge.get_anew(target), range(16))) == {f"v{version}"}
    assert served(edge, target)[1] == "HIT"


def test_a_purge_in_one_zone_leaves_the_other(edge: OwnNginxEdge, origin: ScriptedOrigin) -> None:
    for target in ("/z/b", "/two/b"):
        origin.answer(target, Reply(body=b"old"))
        served(edge, target)
    edge.purge("/two/*")
    assert served(edge, "/z/b")[1] == "HIT"
    assert served(edge, "/two/b")[1] == "MISS"


def test_what_only_absolute_form_names_bypasses(edge: OwnNginxEdge) -> None:
    """Its own authority and Host may name two sites: whose purge would count?"""
    host, _, port = edge.address.rpartition(":")
    for _ in range(2):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(f"GET http://other.example/z/abs HTTP/1.1\r\nHost: {edge.address}\r\nConnection: close\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                assert b"X-Cache: BYPASS" in answer.read()
