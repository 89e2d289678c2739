"""A purge names what its author meant, and widening never loses any of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.core.canonical import InvalidUrl, canonical_url
from agezero.core.selector import EVERYTHING, Kind, Selector, WildcardMisplaced, authority_of, canonical_prefix, parse_url, widen

URL = "example.com/a/b.jpg?w=1"

hosts = st.sampled_from(["example.com", "example.com:8080", "example.org"])
targets = st.text("ab/.?% é~", max_size=12).map(lambda text: "/" + text)
canonical_urls = st.tuples(hosts, targets).map(lambda pair: canonical_url(f"http://{pair[0]}{pair[1]}"))
tag_names = st.text("xyz", min_size=1, max_size=3)
selectors = st.one_of(
    canonical_urls.map(lambda url: Selector(Kind.URL, url)),
    canonical_urls.map(lambda url: Selector(Kind.PREFIX, url)),
    hosts.map(lambda host: Selector(Kind.HOST, host)),
    tag_names.map(lambda tag: Selector(Kind.TAG, tag)),
    st.just(EVERYTHING),
)


@pytest.mark.parametrize(
    ("selector", "named"),
    [
        (Selector(Kind.URL, URL), True),
        (Selector(Kind.URL, "example.com/a/b.jpg"), False),
        (Selector(Kind.PREFIX, "example.com/a/b"), True),
        (Selector(Kind.PREFIX, "example.com/b"), False),
        (Selector(Kind.TAG, "sale"), True),
        (Selector(Kind.TAG, "sal"), False),
        (Selector(Kind.HOST, "example.com"), True),
        (Selector(Kind.HOST, "example.co"), False),
        (EVERYTHING, True),
    ],
)
def test_each_kind_names_what_it_says(selector: Selector, named: bool) -> None:
    assert selector.matches(URL, frozenset({"sale", "shoes"})) is named


def test_an_object_without_tags_is_not_named_by_a_tag() -> None:
    assert not Selector(Kind.TAG, "sale").matches(URL)


@given(selectors, canonical_urls, st.frozensets(tag_names))
def test_widening_never_loses_anything(selector: Selector, url: str, tags: frozenset[str]) -> None:
    wider = widen(selector)
    assert not selector.matches(url, tags) or wider.matches(url, tags)


def test_widening_goes_from_url_to_prefix_to_host_to_everything() -> None:
    steps = [Selector(Kind.URL, URL)]
    while steps[-1] != EVERYTHING:
        steps.append(widen(steps[-1]))
    assert steps == [Selector(Kind.URL, URL), Selector(Kind.PREFIX, URL), Selector(Kind.HOST, "example.com"), EVERYTHING]
    assert widen(EVERYTHING) == widen(Selector(Kind.TAG, "sale")) == EVERYTHING


@given(canonical_urls, st.data())
def test_a_wildcard_names_every_url_it_begins(url: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(url.index("/") + 1, len(url)))
    selector = parse_url(f"https://{url[:cut]}*")
    assert selector.kind is Kind.PREFIX
    assert selector.matches(url)


@given(canonical_urls, st.data())
def test_a_wildcard_that_cuts_nothing_in_half_names_no_more_than_it_says(url: str, data: st.DataObject) -> None:
    cut = data.draw(st.integers(url.index("/") + 1, len(url)))
    end = url[:cut]
    if "%" not in end[-2:] and not end.partition("?")[0].endswith("."):
        assert parse_url(f"https://{end}*").value == end


@pytest.mark.parametrize(
    ("target", "prefix"),
    [
        ("/a/%2", "/a/"),
        ("/a/%", "/a/"),
        ("/a/%2e", "/a/"),
        ("/a/..", "/"),
        ("/%%4", "/%25"),
        ("/a/%41", "/a/A"),
        ("/é", "/%C3%A9"),
        ("?", "/?"),
        ("/", "/"),
    ],
)
def test_a_prefix_cut_in_the_middle_of_something_becomes_wider(target: str, prefix: str) -> None:
    assert canonical_prefix(target) == prefix


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("https://Example.com/a", Selector(Kind.URL, "example.com/a")),
        ("https://Example.com/a*", Selector(Kind.PREFIX, "example.com/a")),
        ("https://Example.com/a?x=*", Selector(Kind.PREFIX, "example.com/a?x=")),
        ("https://Example.com/*", Selector(Kind.PREFIX, "example.com/")),
        ("https://Example.com/a#*", Selector(Kind.URL, "example.com/a")),
        ("https://Example.com/a%2A", Selector(Kind.URL, "example.com/a%2A")),
    ],
)
def test_a_star_at_the_end_makes_a_prefix(text: str, selector: Selector) -> None:
    assert parse_url(text) == selector


@pytest.mark.parametrize(
    "text", ["https://example.com/a*b", "https://example.com/**", "https://*.example.com/a", "https://*", "https://example.com*"]
)
def test_a_star_elsewhere_is_refused_and_never_read_as_a_character(text: str) -> None:
    with pytest.raises(WildcardMisplaced, match=r"^a wildcard \* may stand only at the end of the URL's path or query$"):
        parse_url(text)


def test_a_malformed_wildcard_is_refused_like_a_malformed_url() -> None:
    with pytest.raises(InvalidUrl, match="user information"):
        parse_url("https://me@example.com/a*")


def test_the_authority_keeps_its_port() -> None:
    assert authority_of("example.com:8080/a:b/c") == "example.com:8080"


def test_a_selector_reads_well_in_a_log() -> None:
    assert [str(Selector(Kind.URL, URL)), str(EVERYTHING)] == [f"url {URL}", "everything"]
