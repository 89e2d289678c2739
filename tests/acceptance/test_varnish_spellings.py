"""A purge finds an object in Varnish under every name it can be stored by: spellings, the user's own VCL, prefixes, tags, soft purges."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agezero.core.selector import Kind, Selector
from support.caches.asking import fetched, stored
from support.caches.varnish import VarnishEdge, running_varnish
from support.programs import require
from support.scripted import Reply, ScriptedOrigin
from support.waiting import wait_for

FRESH: dict[str, str | list[str]] = {"Cache-Control": "max-age=3600"}
DEVICE = "sub vcl_hash { hash_data(req.http.X-Device); }"


@pytest.fixture
def edge(origin: ScriptedOrigin, tmp_path: Path) -> Iterator[VarnishEdge]:
    with started(origin, tmp_path) as running:
        yield running


def started(origin: ScriptedOrigin, data: Path, **options: Any) -> Any:
    require("varnishd")
    return running_varnish(origin.url, data, **options)


def test_what_the_users_vcl_adds_to_the_hash_is_purged_too(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, after=DEVICE) as edge:
        for device in ("phone", "desk"):
            stored(edge, origin, "/d", X_Device=device)
        edge.purge("/d")
        assert all(fetched(edge, origin, "/d", X_Device=device) for device in ("phone", "desk"))


def test_what_the_users_vcl_makes_of_a_url_is_purged_by_what_was_asked(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, after='sub vcl_recv { set req.url = "/moved" + req.url; }') as edge:
        stored(edge, origin, "/m")
        edge.purge("/m")
        assert fetched(edge, origin, "/m")


SPELLINGS = ["/q%C3%A9?x=%2F%7C", "/q%C3%a9?x=%2f%7c"]


@pytest.mark.parametrize("what", ["/q%C3%A9?x=%2F%7C", "/q%C3%A9?*", "/q%C3*"])
def test_spellings_are_stored_and_purged(edge: VarnishEdge, origin: ScriptedOrigin, what: str) -> None:
    stored(edge, origin, *SPELLINGS, "/z")
    edge.purge(what)
    assert all(fetched(edge, origin, spelling) for spelling in SPELLINGS)
    assert not fetched(edge, origin, "/z")


def spelled_otherwise(edge: VarnishEdge, origin: ScriptedOrigin) -> str:
    origin.answer("/%7Ea", Reply(body=b"old"))
    edge.get("/%7Ea")
    origin.answer("/%7Ea", Reply(body=b"new"))
    edge.purge("/~a")
    return edge.get("/%7Ea").text


def test_a_spelling_that_cannot_be_purged_is_not_stored(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    assert spelled_otherwise(edge, origin) == "new"
    for target in ("/%61", "/a/../b", "/a/.", "/%2e"):
        assert all(edge.raw(target, edge.host).startswith(b"HTTP/1.1 200") for _ in range(2))
        assert origin.count(target) == 2


def test_what_is_asked_for_with_a_fragment_is_not_stored(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    """An origin cuts it off, or not: under "/f" and "/f#x" may lie the same, and a purge names the first alone."""
    for _ in range(2):
        edge.raw("/f#x", edge.host)
    assert origin.count("/f#x") == 2


def test_without_that_rule_the_other_spelling_is_served(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, without=("spelling",)) as edge:
        assert spelled_otherwise(edge, origin) == "old"


ROLLBACK = "sub vcl_recv { if (req.restarts == 0 && req.http.X-Fails) { std.rollback(req); return (restart); } }"


def named_by_a_visitor(edge: VarnishEdge, origin: ScriptedOrigin) -> str:
    origin.answer("/n", Reply(body=b"old"))
    edge.get("/n", AgeZero_Url="example.com/other", X_Fails="1")
    origin.answer("/n", Reply(body=b"new"))
    edge.purge("/n")
    return edge.get("/n").text


def test_a_visitor_gives_no_object_its_name(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, after=ROLLBACK) as edge:
        assert named_by_a_visitor(edge, origin) == "new"
        assert edge.get("/n", AgeZero_Url="example.com/other").status_code == 400


def test_without_that_rule_a_visitor_hides_an_object(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with started(origin, tmp_path, after=ROLLBACK, without=("named",)) as edge:
        assert named_by_a_visitor(edge, origin) == "old"


def test_the_host_in_any_spelling(edge: VarnishEdge, origin: ScriptedOrigin) -> None:
    for host in ("Example.COM", "example.com.", "example.com:80", "example.com.:0443"):
        edge.raw("/h", host)
    assert origin.count("/h") == 1
    edge.purge(Selector(Kind.URL, "example.com/h"))
    edge.raw("/h", "example.com")
    assert origin.count("/h") == 2


HOSTILE = ['/i/" && obj.status == 200', "/i/.*", "/i/a|b", "/i/a)(b", "/i/\\x", "/i/$^", "/i/a\tb && x"]


@pytest.mark.parametrize("prefix", HOSTILE)
def test_a_prefix_is_never_part_of_the_bans_syntax(edge: VarnishEdge, origin: ScriptedOrigin, prefix: str) -> None:
    stored(edge, origin, "/i/other", "/i/a", "/i/b")
    edge.purge(Selector(Kind.PREFIX, edge.host + prefix))
    assert not any(fetched(edge, origin, target) for target in ("/i/other", "/i/a", "/i/b"))


@pytest.mark.parametrize("tag", ["a b", "a,b", "a\r\nAgeZero-Boot: x", "", "é", "a" * 300, '"'])
def test_a_tag_that_can_be_no_key_purges_everything(edge: VarnishEdge, origin: ScriptedOrigin, tag: str) -> None:
    stored(edge, origin, "/untagged")
    edge.purge(Selector(Kind.TAG, tag))
    assert fetched(edge, origin, "/untagged")


@pytest.mark.parametrize("name", ["Surrogate-Key", "Cache-Tag", "xkey", "Cache-Groups"])
def test_tags_are_taken_from_each_header(edge: VarnishEdge, origin: ScriptedOrigin, name: str) -> None:
    origin.answer(f"/{name}", Reply(headers={**FRESH, name: ['"red", "sale"' if name == "Cache-Groups" else "red sale", "blue"]}))
    for tag in ("sale", "blue"):
        stored(edge, origin, f"/{name}")
        edge.purge(Selector(Kind.TAG, tag))
        assert fetched(edge, origin, f"/{name}")


@pytest.mark.parametrize("what", ["/soft", Selector(Kind.TAG, "mild")])
def test_soft_is_stale_while_revalidated(edge: VarnishEdge, origin: ScriptedOrigin, what: str | Selector) -> None:
    origin.answer("/soft", Reply(headers={**FRESH, "xkey": "mild"}, body=b"old"))
    stored(edge, origin, "/soft")
    origin.answer("/soft", Reply(headers={**FRESH, "xkey": "mild"}, body=b"new"))
    edge.purge(what, soft=True)
    assert edge.get("/soft").text == "old"
    wait_for(lambda: edge.get("/soft").text == "new", "it was fetched anew")
