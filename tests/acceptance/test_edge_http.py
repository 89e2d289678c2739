"""Visitors get a good HTTP cache from the embedded edge: ages, validators, ranges, variants, stale answers, by real nginx and a real origin."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest

from support.edge import Edge, is_hit, running_edge, status
from support.scripted import Gate, Reply, ScriptedOrigin, scripted_origin
from support.waiting import wait_for


@pytest.fixture(scope="module")
def edge(origin: ScriptedOrigin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running_edge(origin.url, tmp_path_factory.mktemp("edge"), read_timeout_s=2, body_bytes_max=2**20) as running:
        yield running


Headers = dict[str, str | list[str]]


def cache_control(value: str, **more: str | list[str]) -> Headers:
    return {"Cache-Control": value, **{name.replace("_", "-"): text for name, text in more.items()}}


def test_a_miss_is_stored_and_then_hit(edge: Edge, origin: ScriptedOrigin) -> None:
    first, second = edge.get("/plain"), edge.get("/plain")
    assert status(first) == "fwd=miss; fwd-status=200; stored"
    assert first.headers["Age"] == "0"
    assert is_hit(second)
    assert 3500 <= int(status(second).removeprefix("hit; ttl=")) <= 3600
    assert origin.count("/plain") == 1
    assert second.headers["Date"] == first.headers["Date"]


def test_an_upstream_age_counts(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.answer("/aged", Reply(headers=cache_control("max-age=100", Age="40")))
    assert 40 <= int(edge.get("/aged").headers["Age"]) <= 45
    hit = edge.get("/aged")
    assert is_hit(hit)
    assert 40 <= int(hit.headers["Age"]) <= 45
    assert 55 <= int(status(hit).removeprefix("hit; ttl=")) <= 60


def test_age_grows(edge: Edge) -> None:
    edge.get("/grows")
    wait_for(lambda: int(edge.get("/grows").headers["Age"]) >= 1, "Age of 1 s")


def test_an_upstream_cache_is_listed_first(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.answer("/far", Reply(headers=cache_control("max-age=100", Cache_Status="far; hit; ttl=5")))
    assert edge.get("/far").headers["Cache-Status"] == "far; hit; ttl=5, edge; fwd=miss; fwd-status=200; stored"
    assert edge.get("/far").headers["Cache-Status"].startswith("far; hit; ttl=5, edge; hit; ttl=")


HOUR = 3600
NOW = time.time()
STORED: dict[str, Headers] = {
    "max-age": cache_control("max-age=10"),
    "s-maxage wins": cache_control("max-age=0, s-maxage=10"),
    "quoted": cache_control('max-age="10"'),
    "upper case": cache_control("MAX-AGE=10"),
    "two lines": {"Cache-Control": ["public", "max-age=10"]},
    "Expires": {"Expires": formatdate(NOW + HOUR, usegmt=True)},
    "Last-Modified": {"Last-Modified": formatdate(NOW - 10 * HOUR, usegmt=True)},
    "CDN-Cache-Control wins": cache_control("no-store", CDN_Cache_Control="max-age=10"),
    "CDN-Cache-Control malformed": cache_control("max-age=10", CDN_Cache_Control="no-store=,"),
    "Expires past, max-age": cache_control("max-age=10", Expires="0"),
}
NOT_STORED: dict[str, Headers] = {
    "no-store": cache_control("max-age=10, no-store"),
    "no-store in the second line": {"Cache-Control": ["max-age=10", "no-store"]},
    "private": cache_control('max-age=10, private="x"'),
    "no-cache": cache_control("max-age=10, no-cache"),
    "s-maxage=0": cache_control("max-age=10, s-maxage=0"),
    "a malformed number": cache_control("max-age=1O"),
    "a negative number": cache_control("max-age=-1"),
    "Set-Cookie": cache_control("max-age=10", Set_Cookie="a=b"),
    "Vary: *": cache_control("max-age=10", Vary="*"),
    "Vary: *, in a list": cache_control("max-age=10", Vary="Accept, *"),
    "Expires past": {"Expires": formatdate(NOW - HOUR, usegmt=True), "Last-Modified": formatdate(NOW - HOUR, usegmt=True)},
    "Expires: 0": {"Expires": "0", "Last-Modified": formatdate(NOW - HOUR, usegmt=True)},
    "nothing said": {},
    "older than its lifetime": cache_control("max-age=10", Age="11"),
    "CDN-Cache-Control: no-store": cache_control("max-age=10", CDN_Cache_Control="no-store"),
    "X-Accel-Expires of the origin": {"X-Accel-Expires": "100"},
}


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored(edge: Edge, origin: ScriptedOrigin, name: str) -> None:
    target = f"/stored/{abs(hash(name))}"
    origin.answer(target, Reply(headers=STORED[name]))
    first = edge.get(target)
    assert status(first) == "fwd=miss; fwd-status=200; stored"
    assert is_hit(edge.get(target))
    for field, value in STORED[name].items():  # the client sees the origin's own words
        assert first.headers[field] == (value if isinstance(value, str) else ", ".join(value))
    assert not [field for field in first.headers if field.startswith(("agezero", "x-accel"))]


@pytest.mark.parametrize("name", NOT_STORED)
def test_what_is_not_stored(edge: Edge, origin: ScriptedOrigin, name: str) -> None:
    target = f"/not-stored/{abs(hash(name))}"
    origin.answer(target, Reply(headers=NOT_STORED[name]))
    assert status(edge.get(target)) == "fwd=miss; fwd-status=200"
    assert status(edge.get(target)) == "fwd=miss; detail=uncacheable; fwd-status=200"
    assert origin.count(target) == 2


@pytest.mark.parametrize(("code", "headers", "stored"), [(404, "max-age=10", True), (302, "", False), (500, "", False), (206, "max-age=10", False)])
def test_other_statuses(edge: Edge, origin: ScriptedOrigin, code: int, headers: str, stored: bool) -> None:
    origin.answer(f"/status/{code}", Reply(code, headers=cache_control(headers)))
    edge.get(f"/status/{code}")
    assert is_hit(edge.get(f"/status/{code}")) is stored


def test_vary(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.answer(
        "/vary",
        lambda asked: Reply(headers=cache_control("max-age=100", Vary="Accept-Language"), body=str(asked.headers["Accept-Language"]).encode()),
    )
    for language in ("de", "fr"):
        assert edge.get("/vary", Accept_Language=language).text == language
        again = edge.get("/vary", Accept_Language=language)
        assert (again.text, is_hit(again)) == (language, True)
    edge.purge("/vary")
    for language in ("de", "fr"):
        assert not is_hit(edge.get("/vary", Accept_Language=language))


def test_ranges(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.answer("/range", Reply(body=b"0123456789"))
    edge.get("/range")
    part = edge.get("/range", Range="bytes=2-4")
    assert (part.status_code, part.text, part.headers["Content-Range"]) == (206, "234", "bytes 2-4/10")
    assert is_hit(part)
    assert edge.get("/range", Range="bytes=20-").status_code == 416


def test_head_is_answered_from_the_store(edge: Edge, origin: ScriptedOrigin) -> None:
    edge.get("/head")
    answer = edge.client.head("/head")
    assert (answer.status_code, answer.text, is_hit(answer)) == (200, "", True)
    assert origin.count("/head") == 1


def test_conditional_requests(edge: Edge, origin: ScriptedOrigin) -> None:
    changed = formatdate(NOW - HOUR, usegmt=True)
    origin.answer("/conditional", Reply(headers=cache_control("max-age=100", ETag='"1"', Last_Modified=changed)))
    edge.get("/conditional")
    for condition in ({"If_None_Match": '"1"'}, {"If_Modified_Since": changed}):
        answer = edge.get("/conditional", **condition)
        assert (answer.status_code, is_hit(answer)) == (304, True)
    assert edge.get("/conditional", If_None_Match='"2"').status_code == 200
    assert origin.count("/conditional") == 1


def test_gzip(edge: Edge, origin: ScriptedOrigin) -> None:
    text = b"a text that shrinks " * 100
    origin.answer("/text", Reply(headers=cache_control("max-age=100", Content_Type="text/plain"), body=text))
    assert edge.get("/text", Accept_Encoding="identity").content == text
    with edge.client.stream("GET", "/text", headers={"Accept-Encoding": "gzip"}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert gzip.decompress(raw) == text
    assert is_hit(answer)


def test_upgrade_goes_through(edge: Edge) -> None:
    with socket.create_connection(edge.settings.address, timeout=10) as client:
        client.sendall(b"GET /socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(1024)
        assert head.startswith(b"HTTP/1.1 101")
        client.sendall(b"ping")
        assert client.recv(1024) == b"ping"


def test_a_request_body_is_streamed(edge: Edge, origin: ScriptedOrigin) -> None:
    asked = threading.Event()
    origin.answer("/upload", Reply(headers={}, body=b"ok"))

    def halves() -> Iterator[bytes]:
        yield b"first "
        assert asked.wait(10), "the origin has seen nothing of the body"
        yield b"second"

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(edge.client.post, "/upload", content=halves())
        wait_for(lambda: "/upload" in origin.begun, "the origin to get the request before its body ends")
        asked.set()
        assert answer.result(30).status_code == 200
    assert origin.last("/upload").body == b"first second"


def test_a_body_over_the_limit_is_refused(edge: Edge) -> None:
    assert edge.client.post("/large", content=bytes(2**20 + 1)).status_code == 413


def test_an_answer_that_is_not_stored_is_passed_on_as_it_comes(edge: Edge, origin: ScriptedOrigin) -> None:
    gate = Gate()
    origin.answer("/events", Reply(headers=cache_control("no-store"), body=b"first second", in_body=gate))
    with edge.client.stream("GET", "/events") as answer:
        chunks = answer.iter_bytes()
        assert next(chunks) == b"first "
        gate.open.set()
        assert b"".join(chunks) == b"second"


def test_a_herd_makes_one_fetch(edge: Edge, origin: ScriptedOrigin) -> None:
    gate = Gate()
    edge.get("/herd")
    edge.purge("/herd")
    origin.answer("/herd", Reply(body=b"v2", before_head=gate))
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(httpx.get, f"{edge.url}/herd", timeout=30) for _ in range(10)]
        assert gate.reached.wait(30)
        gate.open.set()
        assert {answer.result().text for answer in answers} == {"v2"}
    assert origin.count("/herd") == 2


def test_stale_while_revalidate(edge: Edge, origin: ScriptedOrigin) -> None:
    gate = Gate()
    origin.answer("/swr", Reply(headers=cache_control("max-age=0, stale-while-revalidate=60")))
    assert status(edge.get("/swr")) == "fwd=miss; fwd-status=200; stored"
    origin.answer("/swr", Reply(body=b"v2", before_head=gate))
    for _ in range(2):  # a connection each: nginx takes no further request from the one that began the update until it is done
        stale = httpx.get(f"{edge.url}/swr")
        assert stale.text == "v1"
        assert int(status(stale).removeprefix("hit; ttl=")) < 0
    assert gate.reached.wait(30)
    gate.open.set()
    wait_for(lambda: edge.get("/swr").text == "v2", "the update in the background")
    assert origin.count("/swr") == 2


def test_what_was_fetched_again_is_served_by_every_process(origin: ScriptedOrigin, tmp_path: Path) -> None:
    """Each keeps the files of hot objects open; none goes on with one that was replaced."""
    origin.answer("/again", Reply(headers=cache_control("max-age=2")))
    with running_edge(origin.url, tmp_path, workers=2) as edge:

        def seen() -> set[str]:
            return {httpx.get(f"{edge.url}/again").text for _ in range(20)}

        assert seen() == {"v1"}
        origin.answer("/again", Reply(body=b"v2"))
        wait_for(lambda: edge.get("/again").text == "v2", "the end of the freshness")
        assert seen() == {"v2"}


ERROR = Reply(503, headers={}, body=b"broken")


def test_stale_if_error(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.answer("/sie", Reply(headers=cache_control("max-age=0, stale-if-error=60")))
    edge.get("/sie")
    origin.answer("/sie", ERROR)
    stale = edge.get("/sie")
    assert (stale.status_code, stale.text) == (200, "v1")
    assert status(stale) == "fwd=stale; detail=stale-if-error"
    edge.purge("/sie")
    assert edge.get("/sie").text == "broken"


@pytest.mark.parametrize(
    "headers",
    [cache_control("max-age=1"), cache_control("max-age=1, must-revalidate, stale-if-error=60, stale-while-revalidate=60")],
    ids=["not allowed", "must-revalidate"],
)
def test_nothing_stale_where_the_answer_does_not_allow_it(edge: Edge, origin: ScriptedOrigin, headers: Headers) -> None:
    target = f"/firm/{abs(hash(str(headers)))}"
    origin.answer(target, Reply(headers=headers))
    assert edge.get(target).headers["Cache-Control"] == headers["Cache-Control"]
    origin.answer(target, ERROR)
    wait_for(lambda: edge.get(target).status_code == 503, "the end of the second of freshness")


def test_directives_for_caches_govern_what_may_be_stale(edge: Edge, origin: ScriptedOrigin) -> None:
    headers = cache_control("no-store", CDN_Cache_Control="max-age=0, stale-if-error=60")
    origin.answer("/cdn", Reply(headers=headers))
    edge.get("/cdn")
    origin.answer("/cdn", ERROR)
    stale = edge.get("/cdn")
    assert (stale.text, stale.headers["Cache-Control"]) == ("v1", "no-store")


def test_a_cut_off_body_is_not_stored(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.answer("/cut", Reply(body=b"0123456789", cut=True))
    with pytest.raises(httpx.RemoteProtocolError):
        edge.get("/cut")
    origin.answer("/cut", Reply(body=b"0123456789"))
    assert edge.get("/cut").text == "0123456789"


def test_what_never_meets_the_cache(edge: Edge, origin: ScriptedOrigin) -> None:
    edge.get("/private")
    answer = edge.get("/private", Authorization="Basic eA==")
    assert status(answer) == "fwd=bypass; detail=authorization; fwd-status=200"
    assert status(edge.client.options("/private")) == "fwd=method; fwd-status=200"
    assert origin.count("/private") == 3


@pytest.mark.parametrize("value", ["max-age=0, s-maxage=60", "max-age=60, foo", "private, max-age=60"])
def test_what_never_meets_the_cache_keeps_the_origins_cache_control(edge: Edge, origin: ScriptedOrigin, value: str) -> None:
    origin.answer("/plain-cc", Reply(headers={"Cache-Control": value, "CDN-Cache-Control": "max-age=9"}))
    assert edge.get("/plain-cc", Authorization="Basic eA==").headers["Cache-Control"] == value
    assert edge.client.post("/plain-cc").headers["Cache-Control"] == value


def test_what_the_origin_is_told(edge: Edge, origin: ScriptedOrigin) -> None:
    edge.get("/told", X_Forwarded_For="192.0.2.1", X_Forwarded_Host="evil.example.com", X_Forwarded_Proto="https")
    headers = origin.last("/told").headers
    assert headers["Host"] == origin.url.removeprefix("http://")
    assert headers["X-Forwarded-Host"] == edge.settings.listen
    assert headers["X-Forwarded-For"] == "192.0.2.1, 127.0.0.1"
    assert headers["X-Forwarded-Proto"] == "http"


@pytest.mark.parametrize("spelling", ["Site.test", "site.test.", "site.test:443", "site.test:080"])
def test_what_is_shared_by_all_spellings_of_a_host_names_none_of_them(edge: Edge, origin: ScriptedOrigin, spelling: str) -> None:
    """Or a visitor could have a link to https://site.test:80/ stored for all."""
    target = f"/links/{spelling}"
    origin.answer(target, lambda asked: Reply(body=str(asked.headers["X-Forwarded-Host"]).encode()))
    assert [edge.get(target, Host=host).text for host in (spelling, "site.test")] == ["site.test"] * 2
    assert is_hit(edge.get(target, Host="site.test"))


def test_an_absolute_form_names_the_authority(edge: Edge, origin: ScriptedOrigin) -> None:
    """Key, look-up and what the origin is told agree, or the cache could be poisoned by a Host that says something else."""

    def ask(target: str, host: str) -> bytes:
        with socket.create_connection(edge.settings.address, timeout=10) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b""))

    origin.answer("/absolute", lambda asked: Reply(body=str(asked.headers["X-Forwarded-Host"]).encode()))
    poison = ask("http://victim.example.com/absolute", "evil.example.com")
    assert b"evil" not in poison
    assert ask("/absolute", "victim.example.com").endswith(b"victim.example.com")
    assert ask("/absolute", "evil.example.com").endswith(b"evil.example.com")


def test_orders_to_nginx_are_not_obeyed(edge: Edge, origin: ScriptedOrigin) -> None:
    origin.answer("/orders", Reply(headers={"X-Accel-Redirect": "/other", "AgeZero-Fill": "1 100", "X-Accel-Expires": "100"}, body=b"mine"))
    assert edge.get("/orders").text == "mine"
    assert status(edge.get("/orders")) == "fwd=miss; detail=uncacheable; fwd-status=200"


def test_a_slow_origin(edge: Edge, origin: ScriptedOrigin) -> None:
    gate = Gate()
    origin.answer("/slow", Reply(before_head=gate))
    answer = edge.get("/slow")
    gate.open.set()
    assert (answer.status_code, answer.text) == (504, "504: the origin did not answer in time.\n")
    assert status(answer) == "fwd=miss; fwd-status=504"


def test_the_origin_is_down(tmp_path: Path) -> None:
    with scripted_origin() as gone:
        url = gone.url
    with running_edge(url, tmp_path) as edge:
        answer = edge.get("/")
        assert (answer.status_code, answer.text) == (502, "502: the origin did not answer, or not in HTTP.\n")
        assert status(answer) == "fwd=miss; fwd-status=502"
        assert answer.headers["Cache-Control"] == "no-store"


def test_the_clients_host_can_be_passed_on(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with running_edge(origin.url, tmp_path, origin_host="pass", name="paris-1") as edge:
        answer = edge.get("/host", Host="www.example.com")
        assert origin.last("/host").headers["Host"] == "www.example.com"
        assert answer.headers["Cache-Status"].startswith("paris-1; ")
