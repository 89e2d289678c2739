"""edge.js and the core are one: canonical form, hash and look-up, in real njs, on random input."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agezero.core.canonical import URL_BYTES_MAX, InvalidUrl, canonical_authority, canonical_target
from agezero.core.epochs import EpochTable
from agezero.core.selector import EVERYTHING, Kind, Selector, authority_of
from agezero.edges.nginx.driver import gates_text
from support.njs import SLOTS, Njs, running_njs

EXAMPLES = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def njs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Njs]:
    with running_njs(tmp_path_factory.mktemp("njs")) as running:
        yield running


HOSTS = st.sampled_from(
    ["a.example.com", "A.Example.COM", "b", "[::1]", "[::A]", "127.0.0.1", "a..b", "-a", "a-", "a_b.c", "a.", ".", "", "x" * 250, "x" * 256]
)
PORTS = st.sampled_from(["", ":", ":0", ":80", ":443", ":0443", ":8", ":81", ":8080", ":65535", ":65536", ":99999", ":123456", ":x", "@b"])
AUTHORITIES = st.one_of(st.builds(str.__add__, HOSTS, PORTS), st.text("aA.:-_[]@09 ", max_size=12))
PIECES = st.sampled_from(
    [
        *"abZ09/?.%#&=+~ :@!$'()*,;-_\\^\"",
        "/",
        "//",
        "/.",
        "/..",
        "/./",
        "/../",
        "%2e",
        "%2E",
        "%7e",
        "%zz",
        "%2",
        "%41",
        "%e4",
        "ä",
        "\u4e2d",
        "\x7f",
    ]
)
TARGETS = st.lists(PIECES, max_size=16).map(lambda pieces: "/" + "".join(pieces)).map(str.encode) | st.binary(max_size=20).map(
    lambda tail: b"/" + tail
)
LONG = st.integers(URL_BYTES_MAX - 2, URL_BYTES_MAX + 2).flatmap(lambda size: st.sampled_from([b"/" + b"a" * size, b"/" + b" " * (size // 3)]))


def expected(authority: str, target: bytes) -> str:
    """The core takes text. Any byte outside ASCII means its percent-encoding."""
    text = "".join(chr(byte) if byte < 128 else f"%{byte:02X}" for byte in target)
    try:
        if "#" in text or len(target) > URL_BYTES_MAX:
            return ""
        return canonical_authority(authority) + canonical_target(text)
    except InvalidUrl:
        return ""


def differences(njs: Njs, pairs: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    answers = njs.call("/compare/urls", [(authority, target.hex()) for authority, target in pairs])
    return [pair for pair, answer in zip(pairs, answers, strict=True) if answer != expected(*pair)]


@EXAMPLES
@given(st.lists(st.tuples(AUTHORITIES, TARGETS | LONG), min_size=1, max_size=20))
def test_the_canonical_form_is_the_cores(njs: Njs, pairs: list[tuple[str, bytes]]) -> None:
    assert differences(njs, pairs) == []


PATHS = st.lists(st.sampled_from(["a", "b", "/", "//", "?", "?/", "c.jpg"]), max_size=6).map("".join)
URLS = st.builds("{}/{}".format, st.sampled_from(["h", "h:81", "hhhhhhhhhhhhhhh"]), PATHS)
SELECTORS = st.one_of(
    URLS.map(lambda url: Selector(Kind.URL, url)),
    URLS.map(lambda url: Selector(Kind.PREFIX, url)),
    URLS.map(lambda url: Selector(Kind.HOST, authority_of(url))),
    st.just(EVERYTHING),
)


def mirrored(njs: Njs, selectors: list[Selector], urls: list[str]) -> tuple[list[int], list[int]]:
    """The epochs of ``urls`` here and there, after the purges of ``selectors`` in both."""
    njs.call("/compare/clear", {})
    table = EpochTable([0] * SLOTS)
    for seq, selector in enumerate(selectors, 1):
        write = table.apply(seq, selector)
        writes = [] if write.slot is None else [(write.slot, write.seq)]
        njs.call("/write", {"token": 1, "everything": table.everything, "gates": gates_text(table.gates), "writes": writes, "local": []})
    return [table.newest(url) for url in urls], njs.call("/compare/newest", urls)


@EXAMPLES
@given(st.lists(SELECTORS, max_size=8), st.lists(URLS, min_size=1, max_size=20))
def test_the_epoch_is_the_cores(njs: Njs, selectors: list[Selector], urls: list[str]) -> None:
    here, there = mirrored(njs, selectors, urls)
    assert here == there


@EXAMPLES
@given(st.lists(SELECTORS, max_size=8), st.lists(URLS, min_size=1, max_size=20), st.randoms(use_true_random=False))
def test_calls_that_overtake_each_other_lose_no_purge(njs: Njs, selectors: list[Selector], urls: list[str], random: Random) -> None:
    """Some 10 s: each example is compared over HTTP with the njs of a real nginx."""
    njs.call("/compare/clear", {})
    table, calls = EpochTable([0] * SLOTS), []
    for seq, selector in enumerate(selectors, 1):
        write = table.apply(seq, selector)
        writes = [] if write.slot is None else [(write.slot, write.seq)]
        calls.append({"token": 1, "everything": table.everything, "gates": gates_text(table.gates), "writes": writes, "local": []})
    random.shuffle(calls)
    for call in calls:
        njs.call("/write", call)
    there = njs.call("/compare/newest", urls)
    assert all(epoch >= table.newest(url) for epoch, url in zip(there, urls, strict=True))


SAMPLE = [Selector(Kind.URL, "h/a"), Selector(Kind.PREFIX, "h/b/"), Selector(Kind.PREFIX, "h/b?c"), Selector(Kind.HOST, "h:81")]
PROBES = [f"{host}/{path}" for host in ("h", "h:81") for path in ("", "a", "b/", "b/a", "b?c", "b?cd/e", "b/?/", "x/b/a")]
MUTATIONS = {
    "factor": ("FACTOR = 1000003", "FACTOR = 1000001"),
    "seed": ("SEED = 0x2545F491", "SEED = 0x2545F492"),
    "kind": ("PREFIX = 0x4CF5AD43", "PREFIX = 0x4CF5AD42"),
    "slash": ("byte === SLASH && slash", "false"),
    "host": ("look(HOST);", ""),
    "length": ("lengths[++next];\n            look(PREFIX);", "lengths[++next];"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_look_up_is_noticed(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    with running_njs(tmp_path_factory.mktemp("njs"), MUTATIONS[name]) as mutant:
        here, there = mirrored(mutant, SAMPLE, PROBES)
    assert here != there


SPELLINGS = [("A.example.com:80", b"/a%7eb/../%2e/c d?%2f"), ("a.example.com:08080", b"/%e4/./"), ("a", b"/a/.b"), ("a.", b"/a#b")]
SLOPPINESS = {
    "upper case": (".toUpperCase()", ""),
    "dots": ("path.indexOf('/.') < 0", "true"),
    "port": ("port === '80'", "port === '79'"),
    "trailing dot": (".replace(/\\.$/, '')", ""),
    "fragment": ("target.includes('#')", "false"),
    "too lax a short cut": ("(?:\\/(?!\\.)", "(?:\\/"),
}


@pytest.mark.parametrize("name", SLOPPINESS)
def test_a_mutated_canonical_form_is_noticed(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    spellings = [*SPELLINGS, ("a.example.com", b"/a/../b"), ("a.example.com.", b"/")]
    with running_njs(tmp_path_factory.mktemp("njs"), SLOPPINESS[name]) as mutant:
        assert differences(mutant, spellings)
