"""Purges of tags in a user's own nginx, by Lua and by njs: exactly what has the tag, never less. Each safeguard of the records has its twin."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agezero.core.selector import Kind, Selector
from support.caches.nginx_lua import NGINX, running_nginx_lua
from support.caches.nginx_njs import running_nginx_njs
from support.caches.nginx_own import Edit, OwnNginxEdge
from support.programs import require
from support.scripted import Asked, Gate, Reply, ScriptedOrigin
from support.seeds import seed_of

TRIALS = 200
NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Engine:
    """``edits``: what takes a safeguard away, by its name."""

    running: Callable[..., AbstractContextManager[OwnNginxEdge]]
    edits: dict[str, Edit]
    programs: tuple[str, ...] = ()

    def start(self, origin: ScriptedOrigin, data: Path, without: str = "", **options: Any) -> AbstractContextManager[OwnNginxEdge]:
        require(*self.programs)
        return self.running(origin.url, data, **({"edit": self.edits[without]} if without else {}), **options)


ENGINES = {
    "lua": Engine(
        running_nginx_lua,
        {
            "union": ("agezero_tags.lua", "number > floor and", "true and"),
            "born": ("agezero_tags.lua", "number <= born", "false"),
            "late": ("agezero_tags.lua", "t:purged(hash) > number", "false"),
            "room": ("agezero-http.conf", "agezero_tags 32m", "agezero_tags 64k"),
            "error": ("agezero_tags.lua", "local hashes = values and", "local hashes = broken.on.purpose and"),
            "subrequest": ("agezero_nginx.lua", "if ngx.is_subrequest or", "if"),
        },
        NGINX,
    ),
    "njs": Engine(
        running_nginx_njs,
        {
            "union": ("tags.js", "number > floor ?", "true ?"),
            "born": ("tags.js", "number <= Number(born)", "false"),
            "late": ("tags.js", "every((hash) => !(", "every((hash) => true || !("),
            "room": ("agezero-http.conf", "zone=agezero_tags:32m", "zone=agezero_tags:64k"),
            "error": ("tags.js", "const number = /^", "broken.on.purpose; const number = /^"),
            "subrequest": ("tags.js", "isSubrequest(r) ?", "false ?"),
        },
    ),
}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]


@pytest.fixture(scope="module")
def edge(engine: Engine, origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnNginxEdge]:
    with engine.start(origin, tmp_path_factory.mktemp("edge")) as running:
        yield running


@pytest.fixture
def folder() -> str:
    return f"/g{next(NUMBERS)}/"


def tagged(*values: str, name: str = "Surrogate-Key", body: bytes = b"old", **more: str) -> Reply:
    headers: dict[str, str | list[str]] = {"Cache-Control": "max-age=3600", name: list(values), **{k.replace("_", "-"): v for k, v in more.items()}}
    return Reply(headers=headers, body=body)


def tag(name: str) -> Selector:
    return Selector(Kind.TAG, name)


def outcome(edge: OwnNginxEdge, target: str, **headers: str) -> str:
    return edge.get(target, **headers).headers["X-Cache"]


def hit(edge: OwnNginxEdge, target: str, **headers: str) -> None:
    outcome(edge, target, **headers)
    assert outcome(edge, target, **headers) == "HIT"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Surrogate-Key", ["a sale  b"]),
        ("Cache-Tag", ["a,sale, b"]),
        ("xkey", ["a", "sale"]),
        ("Cache-Groups", ['"a", "sale"']),
    ],
)
def test_every_header_that_names_tags_is_read_in_all_its_lines(
    edge: OwnNginxEdge, origin: ScriptedOrigin, folder: str, name: str, values: list[str]
) -> None:
    origin.answer(folder + "with", tagged(*values, name=name))
    origin.answer(folder + "without", tagged("sales Sale sal", name=name))
    origin.answer(folder + "none", Reply())
    for target in ("with", "without", "none"):
        hit(edge, folder + target)
    edge.purge(tag("sale"))
    assert [outcome(edge, folder + target) for target in ("with", "without", "none")] == ["MISS", "HIT", "HIT"]


def test_what_is_fetched_anew_can_be_purged_by_its_new_tags_alone(edge: OwnNginxEdge, origin: ScriptedOrigin, folder: str) -> None:
    target = folder + "o"
    origin.answer(target, tagged("first"))
    hit(edge, target)
    edge.purge(tag("first"))
    origin.answer(target, tagged("second"))
    hit(edge, target)
    edge.purge(tag("first"))
    assert outcome(edge, target) == "HIT"
    edge.purge(tag("second"))
    assert outcome(edge, target) == "MISS"


def test_a_tag_that_no_header_could_name_purges_everything(edge: OwnNginxEdge, origin: ScriptedOrigin, folder: str) -> None:
    origin.answer(folder + "q", tagged('a"b'))
    hit(edge, folder + "q")
    edge.purge(tag('a"b'))
    assert outcome(edge, folder + "q") == "MISS"


def test_more_tags_than_are_kept_may_be_any(edge: OwnNginxEdge, origin: ScriptedOrigin, folder: str) -> None:
    origin.answer(folder + "many", tagged(" ".join(f"t{number}" for number in range(65))))
    hit(edge, folder + "many")
    edge.purge(tag("of-another-object"))
    assert outcome(edge, folder + "many") == "MISS"


def test_a_hidden_header_is_read_or_may_name_any_tag(engine: Engine, origin: ScriptedOrigin, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path) as edge:
        conf = edge.home / "nginx.conf"
        conf.write_text(conf.read_text().replace("proxy_cache one;", "proxy_cache one; proxy_hide_header Surrogate-Key;", 1))
        edge.restart()
        edge.open()
        origin.answer("/h", tagged("a", "sale"))
        hit(edge, "/h")
        assert "Surrogate-Key" not in edge.get("/h").headers
        edge.purge(tag("sale"))
        assert outcome(edge, "/h") == "MISS"


def test_a_location_that_records_no_tags_is_purged_by_any(edge: OwnNginxEdge, origin: ScriptedOrigin) -> None:
    origin.answer("/two/u", tagged("a"))
    hit(edge, "/two/u")
    edge.purge(tag("b"))
    assert outcome(edge, "/two/u") == "MISS"


# Variants of one object


def two_variants(edge: OwnNginxEdge, origin: ScriptedOrigin, target: str) -> None:
    """Variant 1 has the tag one, variant 2 the tag two."""

    def vary(asked: Asked) -> Reply:
        return tagged({"1": "one", "2": "two"}[asked.headers["X-A"]], Vary="X-A")

    origin.answer(target, vary)
    for variant in "12":
        hit(edge, target, X_A=variant)


def test_the_tags_of_every_variant_count(edge: OwnNginxEdge, origin: ScriptedOrigin, folder: str) -> None:
    two_variants(edge, origin, folder + "v")
    edge.purge(tag("one"))
    assert outcome(edge, folder + "v", X_A="1") == "MISS"


def test_without_that_a_variant_keeps_a_tag_that_was_purged(engine: Engine, origin: ScriptedOrigin, folder: str, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path, "union") as unsafe:
        two_variants(unsafe, origin, folder + "v")
        unsafe.purge(tag("one"))
        assert outcome(unsafe, folder + "v", X_A="1") == "HIT"


# Fetches in flight


def served_to_a_waiter(edge: OwnNginxEdge, origin: ScriptedOrigin, target: str) -> str:
    """The object is known without the tag; a fetch that will bring it is in flight while the tag is purged; then somebody waits for that fetch."""
    origin.answer(target, tagged("other", Cache_Control="no-store"))
    outcome(edge, target)
    gate = Gate()
    old = tagged("late", body=b"old")
    old.before_head = gate
    origin.answer(target, old)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(edge.get_anew, target)
        assert gate.reached.wait(30)
        edge.purge(tag("late"))
        origin.answer(target, tagged("late", body=b"new"))
        waiter = pool.submit(edge.get_anew, target)
        threading.Event().wait(0.2)  # until it waits for the lock, which nobody outside can see; too early only makes the test easier
        gate.open.set()
        first.result()
        return waiter.result()


def test_who_waits_for_a_fetch_is_not_given_a_tag_that_was_purged_meanwhile(edge: OwnNginxEdge, origin: ScriptedOrigin, folder: str) -> None:
    assert served_to_a_waiter(edge, origin, folder + "w") == "new"
    assert edge.get(folder + "w").text == "new"


def test_without_that_look_a_waiter_is_given_it(engine: Engine, origin: ScriptedOrigin, folder: str, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path, "late") as unsafe:
        assert served_to_a_waiter(unsafe, origin, folder + "w") == "old"


class TagRaces:
    """Purges of a tag at random moments of fetches that bring it, many at once, of objects that are known with other tags, and of unknown ones."""

    def __init__(self, edge: OwnNginxEdge, origin: ScriptedOrigin, seed: int) -> None:
        self._edge, self._origin, self._seed = edge, origin, seed
        self._one_purge = threading.Lock()
        self.old: list[str] = []

    def run(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        target, name = f"/tagrace{self._seed}/{number}", f"r{number}"
        if chance.random() < 0.5:
            self._origin.answer(target, tagged("before", body=b"new", Cache_Control=chance.choice(["no-store", "max-age=1"])))
            self._edge.get_anew(target)
            self._purge(target)
        gate = Gate()
        old = tagged(f"x {name}", body=b"old" * 1000)
        setattr(old, chance.choice(["before_head", "in_body"]), gate)
        self._origin.answer(target, old)
        with ThreadPoolExecutor(3) as pool:
            fetches = [pool.submit(self._edge.get_anew, target) for _ in range(chance.randint(1, 2))]
            opener = threading.Timer(chance.uniform(0, 0.03), gate.open.set)
            opener.start()
            assert gate.reached.wait(30)
            threading.Event().wait(chance.uniform(0, 0.03))
            self._origin.answer(target, tagged(f"x {name}", body=b"new"))
            self._purge(tag(name))
            self._read(target)
            for fetch in fetches:
                fetch.result()
            opener.join()
        self._read(target)

    def _purge(self, what: str | Selector) -> None:
        with self._one_purge:
            self._edge.purge(what)

    def _read(self, target: str) -> None:
        if not self._edge.get_anew(target).startswith("new"):
            self.old.append(target)


def test_a_purge_of_a_tag_at_any_moment_of_a_fetch(edge: OwnNginxEdge, origin: ScriptedOrigin, request: pytest.FixtureRequest) -> None:
    """Some 10 s: 200 races, six at a time, each with a slow fetch."""
    seed = seed_of(request)
    races = TagRaces(edge, origin, seed)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(races.run, range(TRIALS)))
    assert races.old == [], f"seed {seed}"


# Requests that become others inside nginx

ASKING = """
        location /asks/ {
            auth_request /may;
            proxy_cache one;
            set $agezero_object "$request_uri";
            include agezero/agezero-tagged.conf;
            proxy_pass http://origin;
        }
        location = /may {
            internal;
            proxy_cache one;
            set $agezero_object "may";
            include agezero/agezero-tagged.conf;
            proxy_pass http://origin;
        }
"""
INCLUDING = """
        location ~ ^/(?:page|part)/ {
            ssi on;
            proxy_cache one;
            set $agezero_object "$uri";
            include agezero/agezero-tagged.conf;
            proxy_pass http://origin;
        }
"""
REDIRECTING = """
        location /missing/ {
            proxy_cache one;
            set $agezero_object "$uri";
            include agezero/agezero-tagged.conf;
            proxy_intercept_errors on;
            error_page 404 = /instead;
            proxy_pass http://origin;
        }
        location = /instead {
            internal;
            proxy_cache one;
            set $agezero_object "$uri";
            include agezero/agezero-tagged.conf;
            proxy_pass http://origin;
        }
"""


def asked_first(edge: OwnNginxEdge, origin: ScriptedOrigin) -> str:
    """What a page is, of which nginx asks the origin beforehand whether the visitor may see it."""
    origin.answer("/may", tagged("m", body=b"yes"))
    origin.answer("/asks/p", tagged("p", body=b"page"))
    return edge.get("/asks/p").text


def test_a_subrequest_is_not_taken_for_the_page_that_it_is_for(engine: Engine, origin: ScriptedOrigin, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path, more=ASKING) as edge:
        assert [asked_first(edge, origin) for _ in range(2)] == ["page"] * 2


def test_without_that_the_visitor_gets_the_subrequest(engine: Engine, origin: ScriptedOrigin, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path, "subrequest", more=ASKING) as unsafe:
        assert asked_first(unsafe, origin) == "yes"


def test_what_a_page_includes_is_purged_by_its_own_tags(engine: Engine, origin: ScriptedOrigin, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path, more=INCLUDING) as edge:
        origin.answer("/page/p", tagged("page", body=b'<!--# include virtual="/part/p" -->', Content_Type="text/html"))
        origin.answer("/part/p", tagged("part", body=b"old"))
        assert [edge.get("/page/p").text for _ in range(2)] == ["old"] * 2
        edge.purge(tag("part"))
        origin.answer("/part/p", tagged("part", body=b"new"))
        assert edge.get("/page/p").text == "new"


def test_after_an_inner_redirect_the_tags_of_the_other_object_count(engine: Engine, origin: ScriptedOrigin, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path, more=REDIRECTING) as edge:
        edge.purge("/missing/x")
        origin.answer("/missing/x", tagged("there"))
        hit(edge, "/missing/x")
        edge.purge("/missing/x")
        origin.answer("/missing/x", Reply(status=404, headers={"Cache-Control": "no-store"}))
        origin.answer("/instead", tagged("instead", body=b"old"))
        hit(edge, "/missing/x")
        edge.purge(tag("instead"))
        origin.answer("/instead", tagged("instead", body=b"new"))
        assert edge.get("/missing/x").text == "new"


# When records are lost, or there is no room for them


def variant_from_before_a_restart(edge: OwnNginxEdge, origin: ScriptedOrigin, target: str) -> str:
    """One variant is stored, nginx starts anew with its disk, the other is stored; then the tag of the first is purged."""

    def vary(asked: Asked) -> Reply:
        return tagged({"1": "one", "2": "two"}[asked.headers["X-A"]], Vary="X-A")

    origin.answer(target, vary)
    hit(edge, target, X_A="1")
    edge.restart()
    edge.open()
    assert outcome(edge, target, X_A="1") == "HIT", "it is on the disk"
    hit(edge, target, X_A="2")
    edge.purge(tag("one"))
    return outcome(edge, target, X_A="1")


def test_restarted_with_its_disk_it_takes_every_tag_for_possible(engine: Engine, origin: ScriptedOrigin, folder: str, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path) as edge:
        assert variant_from_before_a_restart(edge, origin, folder + "v") == "MISS"
        for variant in "12":
            hit(edge, folder + "v", X_A=variant)
        edge.purge(tag("other"))
        assert outcome(edge, folder + "v", X_A="1") == "HIT", "once it was fetched anew its tags are known again"


def test_without_that_a_restart_forgets_a_tag(engine: Engine, origin: ScriptedOrigin, folder: str, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path, "born") as unsafe:
        assert variant_from_before_a_restart(unsafe, origin, folder + "v") == "HIT"


def test_without_room_for_records_objects_are_cached_and_purged_by_any_tag(
    engine: Engine, origin: ScriptedOrigin, folder: str, tmp_path: Path
) -> None:
    with engine.start(origin, tmp_path, "room") as edge:
        names = [f"{folder}{number}/{'long' * 100}" for number in range(120)]
        for number, name in enumerate(names):
            origin.answer(name, tagged(f"of-{number}"))
            edge.get_anew(name)
        assert {outcome(edge, name) for name in names} == {"HIT"}
        edge.purge(tag("of-7"), tag("of-119"))
        assert outcome(edge, names[7]) == outcome(edge, names[119]) == "MISS"
        outcomes = [outcome(edge, name) for name in names if name not in (names[7], names[119])]
        assert {"MISS", "HIT"} == set(outcomes), "what had a record stays, what had none is gone"
        outcome(edge, names[7])  # by now its record stands for any tag, of which a younger one was purged
        assert {outcome(edge, name) for name in names} == {"HIT"}


def test_after_an_error_nothing_is_stored(engine: Engine, origin: ScriptedOrigin, folder: str, tmp_path: Path) -> None:
    with engine.start(origin, tmp_path, "error") as broken:
        origin.answer(folder + "e", tagged("a"))
        assert [outcome(broken, folder + "e") for _ in range(3)] == ["MISS"] * 3
        assert "broken" in broken.errors()
