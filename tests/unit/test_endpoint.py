from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.core.canonical import InvalidUrl
from agezero.core.endpoint import Endpoint, parse_endpoint
from agezero.core.selector import EVERYTHING, Kind, Selector, parse_url

SITE = parse_endpoint("https://CDN.example.com:443/site/")


def test_an_endpoint_is_canonical() -> None:
    assert SITE == parse_endpoint("http://cdn.example.com/%73ite") == Endpoint("cdn.example.com", "/site")
    assert parse_endpoint("https://cdn.example.com/") == parse_endpoint("https://cdn.example.com") == Endpoint("cdn.example.com", "")


def test_only_slashes_are_taken_off_the_end_of_an_endpoint() -> None:
    assert parse_endpoint("https://cdn.example.com/BOX//").path == "/BOX"


@pytest.mark.parametrize("text", ["https://cdn.example.com/?a", "https://cdn.example.com/*"])
def test_an_endpoint_that_is_a_purge_is_told_what_was_expected(text: str) -> None:
    with pytest.raises(InvalidUrl, match=r"^an endpoint has neither a query nor a wildcard; expected a URL such as https://cdn\.example\.com/site$"):
        parse_endpoint(text)


@pytest.mark.parametrize("text", ["cdn.example.com", "https://cdn.example.com/?a", "https://cdn.example.com/*", "", "https://a b/"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(InvalidUrl):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("url", "covered"),
    [
        ("https://cdn.example.com/site", True),
        ("https://cdn.example.com/site?a=1", True),
        ("https://cdn.example.com/site/a", True),
        ("https://cdn.example.com/site/*", True),
        ("https://cdn.example.com/site?*", True),
        ("https://cdn.example.com/a/../site/b", True),
        ("https://cdn.example.com/site*", False),
        ("https://cdn.example.com/sitemap", False),
        ("https://cdn.example.com/site/../a", False),
        ("https://cdn.example.com/site/..*", False),
        ("https://cdn.example.com/", False),
        ("https://cdn.example.com:8443/site/a", False),
        ("https://cdn.example.com.evil.example/site/a", False),
        ("https://evil.example/cdn.example.com/site/a", False),
    ],
)
def test_a_purge_is_under_an_endpoint_only_from_a_segment_boundary_on(url: str, covered: bool) -> None:
    assert SITE.covers(parse_url(url)) is covered


def test_an_endpoint_covers_nothing_wider_than_a_prefix() -> None:
    wide = [EVERYTHING, Selector(Kind.HOST, "cdn.example.com"), Selector(Kind.TAG, "cdn.example.com/site/")]
    assert not any(SITE.covers(selector) for selector in wide)


@given(st.text(st.sampled_from("/.%2eEFf?asite*"), max_size=30))
def test_what_is_covered_can_match_nothing_outside(rest: str) -> None:
    try:
        selector = parse_url(f"https://cdn.example.com/site{rest}")
    except InvalidUrl:
        return
    if SITE.covers(selector):
        assert not any(selector.matches(f"cdn.example.com{outside}") for outside in ("/", "/sitemap", "/a", "/site2/", "/sit"))
