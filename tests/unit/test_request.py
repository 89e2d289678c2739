"""What a request names, and what its key may purge."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agezero.core.assets import asset_selectors
from agezero.core.endpoint import Endpoint, parse_endpoint
from agezero.core.request import ASSET_WARNING, SELECTORS_MAX, Asked, Bounds, Understood, does_not_do, understand
from agezero.core.selector import EVERYTHING, Kind, Selector, parse_url
from agezero.core.wildcards import Wildcards

SITE = parse_endpoint("https://cdn.example.com/site")
WHOLE = parse_endpoint("https://other.example.com")
SERVICE = (SITE, WHOLE)


def ask(key: tuple[Endpoint, ...] | None = None, wildcards: Wildcards = Wildcards.IMAGEKIT, **asked: Any) -> Understood:
    return understand(Asked(**asked), Bounds(SERVICE, key, wildcards))


def test_every_kind_is_made_canonical_in_order_and_none_twice() -> None:
    understood = ask(
        urls=["HTTPS://CDN.example.com:443/site/a", "http://cdn.example.com/site/./a", "https://cdn.example.com/site/photos/*"],
        prefixes=["https://other.example.com/b?x%4"],
        tags=["product-1"],
        hosts=["Other.example.com:80"],
        everything=True,
    )
    assert not understood.wrong
    assert understood.selectors == (
        Selector(Kind.URL, "cdn.example.com/site/a"),
        Selector(Kind.PREFIX, "cdn.example.com/site/photos/"),
        Selector(Kind.PREFIX, "other.example.com/b?x"),
        Selector(Kind.TAG, "product-1"),
        Selector(Kind.HOST, "other.example.com"),
        EVERYTHING,
    )
    assert understood.warnings == []


@pytest.mark.parametrize(
    ("asked", "where", "why"),
    [
        ({"urls": ["https://cdn.example.com/site/a", "nonsense"]}, "urls/1", "expected an absolute URL"),
        ({"urls": ["https://cdn.example.com/site*a"]}, "urls/0", "only at the end"),
        ({"urls": ["https://other.example.com/*"]}, "urls/0", "matches too much"),
        ({"prefixes": ["https://cdn.example.com/site/*"]}, "prefixes/0", "needs no \\*"),
        ({"tags": ["a b"]}, "tags/0", "a tag is"),
        ({"tags": ["a,b"]}, "tags/0", "a tag is"),
        ({"tags": ["ä"]}, "tags/0", "a tag is"),
        ({"tags": ["x" * 1025]}, "tags/0", "a tag is"),
        ({"tags": [""]}, "tags/0", "a tag is"),
        ({"hosts": ["https://cdn.example.com"]}, "hosts/0", "a host is a name"),
        ({"hosts": ["user@cdn"]}, "hosts/0", "malformed"),
        ({"assets": ["https://cdn.example.com/site/a*"]}, "assets/0", "one file"),
        ({}, "", "nothing to purge"),
    ],
)
def test_what_makes_no_sense_is_named(asked: dict[str, Any], where: str, why: str) -> None:
    (wrong,) = ask(**asked).wrong
    assert wrong.where == where
    assert wrong.allowed
    assert re.search(why, wrong.why)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "nothing to purge is named; expected urls, prefixes, tags, hosts, assets or everything"),
        ({"prefixes": ["https://cdn.example.com/site/*"]}, "a prefix needs no *; it names all that begins so"),
        ({"assets": ["https://cdn.example.com/site/*"]}, "an asset is one file; leave the * off, its transformations are included"),
        ({"hosts": ["a/b"]}, "a host is a name with or without a port, such as cdn.example.com; for a URL there are urls and prefixes"),
        (
            {"urls": ["https://cdn.example.com/x"]},
            "the url 'cdn.example.com/x' is not under an endpoint of this service (cdn.example.com/site/, other.example.com/)",
        ),
        ({"hosts": ["a.example.com"]}, "the host 'a.example.com' is not served here as a whole"),
    ],
)
def test_it_is_said_in_words(asked: dict[str, Any], why: str) -> None:
    assert [wrong.why for wrong in ask(**asked).wrong] == [why]


@pytest.mark.parametrize(
    ("key", "asked", "why"),
    [
        ((), {"urls": ["https://cdn.example.com/site/x"]}, "the url 'cdn.example.com/site/x' is not under an endpoint of this key (none)"),
        ((), {"hosts": ["other.example.com"]}, "the host 'other.example.com' is not this key's as a whole"),
    ],
)
def test_what_a_key_may_not_is_said_in_words(key: tuple[Endpoint, ...], asked: dict[str, Any], why: str) -> None:
    assert [wrong.why for wrong in ask(key, **asked).wrong] == [why]


def test_a_tag_may_be_long_and_of_any_printable_characters() -> None:
    tags = ["X" * 1024, "product:1;x=~!"]
    assert ask(tags=tags).selectors == tuple(Selector(Kind.TAG, tag) for tag in tags)


def test_what_an_edge_widens_to_is_said_in_words() -> None:
    assert does_not_do([Selector(Kind.URL, "cdn.example.com/a")], False, ["prefix", "everything"]) == ("prefixes",)


def test_all_that_is_wrong_is_said_at_once() -> None:
    wrong = ask(urls=["a", "https://cdn.example.com/site/x", "https://foreign.example.com/"], tags=[" "]).wrong
    assert [(each.where, each.allowed) for each in wrong] == [("urls/0", True), ("urls/2", False), ("tags/0", True)]


def test_any_wildcard_where_the_service_allows_it() -> None:
    assert ask(urls=["https://other.example.com/*"], wildcards=Wildcards.ANY).selectors == (Selector(Kind.PREFIX, "other.example.com/"),)


def test_too_many() -> None:
    urls = [f"https://cdn.example.com/site/{number}" for number in range(SELECTORS_MAX)]
    assert not ask(urls=urls).wrong
    wrong = ask(urls=[*urls, urls[0]]).wrong[0]
    assert (wrong.where, "1001 were asked for" in wrong.why) == ("", True)


MINE = (parse_endpoint("https://cdn.example.com/site/mine"),)


@pytest.mark.parametrize(
    ("key", "asked", "refused"),
    [
        (None, {"urls": ["https://cdn.example.com/elsewhere"]}, "this service"),
        (None, {"hosts": ["foreign.example.com"]}, "served here"),
        (None, {"hosts": ["cdn.example.com"]}, ""),
        (None, {"tags": ["t"]}, ""),
        (MINE, {"urls": ["https://cdn.example.com/site/mine/a"]}, ""),
        (MINE, {"urls": ["https://cdn.example.com/site/a"]}, "this key"),
        (MINE, {"prefixes": ["https://cdn.example.com/site/mine"]}, "this key"),
        (MINE, {"prefixes": ["https://cdn.example.com/site/mine/"]}, ""),
        (MINE, {"tags": ["t"]}, "may not purge tags"),
        (MINE, {"hosts": ["cdn.example.com"]}, "this key's"),
        ((WHOLE,), {"hosts": ["other.example.com"]}, ""),
        (MINE, {"assets": ["https://cdn.example.com/site/mine/a.jpg"]}, "this key"),
        ((SITE,), {"assets": ["https://cdn.example.com/site/mine/a.jpg"]}, ""),
    ],
)
def test_a_key_purges_within_its_endpoints(key: tuple[Endpoint, ...] | None, asked: dict[str, Any], refused: str) -> None:
    wrong = ask(key, **asked).wrong
    assert bool(wrong) == bool(refused)
    assert not refused or (refused in wrong[0].why and not wrong[0].allowed)


def test_everything_needs_a_key_without_endpoints() -> None:
    assert not ask(everything=True).wrong
    wrong = ask(MINE, everything=True).wrong[0]
    assert (wrong.where, "may not purge everything" in wrong.why) == ("everything", True)


FORMS = [
    "https://cdn.example.com/site/photos/2024/cat.jpg",
    "https://cdn.example.com/site/photos/2024/cat.jpg?tr=w-100,h-50",
    "https://cdn.example.com/site/photos/2024/cat.jpg?updatedAt=1&tr=w-100:rt-90",
    "https://cdn.example.com/site/tr:w-100,h-50/photos/2024/cat.jpg",
    "https://cdn.example.com/site/tr:w-100:rt-90/photos/2024/cat.jpg?x=1",
    "https://cdn.example.com/site/tr%3aw-100/photos/2024/cat.jpg",
    "https://cdn.example.com/site/photos/tr:n-small/2024/cat.jpg",
    "https://cdn.example.com/site/photos/2024/tr:w-1/cat.jpg?",
    "https://cdn.example.com/site/photos/2024/cat.jpg/ik-thumbnail.jpg?tr=w-100",
    "https://cdn.example.com/site/ik-seo/photos/2024/cat/a-nice-name.jpg",
    "https://cdn.example.com/site/ik-seo/tr:w-100/photos/2024/cat/a-nice-name.jpg",
]


def test_a_name_with_several_dots_loses_only_the_last_part_in_an_seo_url() -> None:
    understood = ask(assets=["https://cdn.example.com/site/a.min.js"])
    assert Selector(Kind.PREFIX, "cdn.example.com/site/ik-seo/a.min/") in understood.selectors
    assert Selector(Kind.PREFIX, "cdn.example.com/site/ik-seo/a/") not in understood.selectors


@pytest.mark.parametrize("form", FORMS)
def test_an_asset_covers_every_form_of_its_url(form: str) -> None:
    understood = ask(assets=["https://cdn.example.com/site/photos/2024/cat.jpg?tr=w-7"])
    assert not understood.wrong
    assert understood.warnings == [ASSET_WARNING]
    assert any(selector.matches(parse_url(form).value) for selector in understood.selectors)


def test_an_asset_leaves_other_files_alone_but_for_their_path_transformations() -> None:
    selectors = ask(assets=["https://cdn.example.com/site/photos/cat.jpg"]).selectors
    taken = [url for url in ("photos/dog.jpg", "photos/dog.jpg?tr=w-1", "tr:w-1/photos/dog.jpg", "other/tr:w-1/cat.jpg")
             if any(selector.matches(f"cdn.example.com/site/{url}") for selector in selectors)]  # fmt: skip
    assert taken == ["tr:w-1/photos/dog.jpg"]


@pytest.mark.parametrize("name", ["folder.v2/file", "file"])
def test_a_file_without_an_extension_has_no_other_name(name: str) -> None:
    selectors = list(asset_selectors(Selector(Kind.URL, f"other.example.com/{name}"), SERVICE))
    assert not any(selector.value.startswith("other.example.com/ik-seo/f") for selector in selectors)


def test_what_an_edge_makes_of_it() -> None:
    selectors = [Selector(Kind.URL, "h/a"), Selector(Kind.TAG, "t"), Selector(Kind.PREFIX, "h/")]
    assert does_not_do(selectors, False, ("url", "prefix", "tag", "everything")) == ()
    assert does_not_do(selectors, True, ("url", "prefix", "tag", "soft")) == ()
    assert does_not_do(selectors, True, ("url", "host", "everything")) == ("hosts", "everything", "hard")
