"""Two spellings of one URL always meet: a purge names one, the cache stored the other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.core.canonical import URL_BYTES_MAX, InvalidUrl, canonical_authority, canonical_target, canonical_url, split_url

UNRESERVED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
HEX = "0123456789abcdefABCDEF"


def any_case(text: str) -> st.SearchStrategy[str]:
    return st.tuples(*(st.sampled_from([c.lower(), c.upper()]) for c in text)).map("".join)


def encoded(text: str) -> st.SearchStrategy[str]:
    return any_case("".join(f"%{byte:02x}" for byte in text.encode()))


def spelled_as(canonical: str, *plain: str, encoding_of: str = "") -> st.SearchStrategy[tuple[str, str]]:
    """(the canonical text, one of the ways in which people write it)"""
    ways = [st.sampled_from([canonical, *plain])]
    if encoding_of:
        ways.append(encoded(encoding_of))
    return st.one_of(ways).map(lambda way: (canonical, way))


characters = st.one_of(
    st.sampled_from(UNRESERVED).flatmap(lambda c: spelled_as(c, encoding_of=c)),
    st.sampled_from("!$&'()*+,;=:@").flatmap(spelled_as),
    st.sampled_from("/?#[]@!$&'()*+,;=:").flatmap(lambda c: spelled_as(f"%{ord(c):02X}", f"%{ord(c):02x}")),  # an encoded delimiter is another thing
    st.sampled_from(' "<>\\^`{|}éß漢🎈').flatmap(lambda c: spelled_as("".join(f"%{b:02X}" for b in c.encode()), c, encoding_of=c)),
    st.sampled_from(["z", "G", "-"]).flatmap(lambda c: spelled_as(f"%25{c}", f"%{c}", f"%25{c}")),  # a % that encodes nothing
)
texts = st.lists(characters, max_size=5).map(lambda pairs: ("".join(p[0] for p in pairs), "".join(p[1] for p in pairs)))
segments = texts.filter(lambda pair: pair[0] not in (".", ".."))
dots = st.sampled_from([".", "%2e", "%2E"])
detours = st.one_of(st.just(""), dots.map(lambda dot: f"/{dot}"), st.tuples(dots, dots).map(lambda two: f"/away/{two[0]}{two[1]}"))
authorities = st.sampled_from(
    [
        ("example.com", ["example.com", "EXAMPLE.com", "example.com.", "Example.Com:80", "example.com:443", "example.com:", "example.com:0443"]),
        ("xn--bcher-kva.example", ["bücher.example", "BÜCHER.example:443", "xn--bcher-kva.example", "XN--BCHER-KVA.Example."]),
        ("example.org", ["example.org", "ｅｘａｍｐｌｅ.org", "example。org"]),
        ("images_1.example:8080", ["images_1.example:8080", "IMAGES_1.example:08080"]),
        ("[2001:db8::a]:8443", ["[2001:db8::a]:8443", "[2001:DB8::A]:08443"]),
        ("192.0.2.1", ["192.0.2.1", "192.0.2.1:80"]),
    ]
)


@st.composite
def urls(draw: st.DrawFn) -> tuple[str, str]:
    """(the canonical form, another spelling)"""
    authority, ways = draw(authorities)
    path, written = "", ""
    for canonical, way in draw(st.lists(segments, max_size=4)):
        path += "/" + canonical
        written += draw(detours) + "/" + way
    query = draw(st.one_of(st.just(("", "")), texts.map(lambda pair: ("?" + pair[0], "?" + pair[1]))))
    scheme = draw(st.sampled_from(["http", "https", "HTTPS"]))
    fragment = draw(st.sampled_from(["", "#", "#top?x=/../"]))
    return authority + (path or "/") + query[0], f"{scheme}://{draw(st.sampled_from(ways))}{written}{query[1]}{fragment}"


@given(urls())
def test_two_spellings_of_one_url_meet(url: tuple[str, str]) -> None:
    canonical, spelling = url
    assert canonical_url(spelling) == canonical


@given(urls())
def test_what_is_canonical_stays_as_it_is(url: tuple[str, str]) -> None:
    assert canonical_url("https://" + canonical_url(url[1])) == url[0]


@given(st.text(st.characters(blacklist_categories=["Cc"])).map(lambda text: "/" + text))
def test_any_request_target_has_one_canonical_form(target: str) -> None:
    try:
        once = canonical_target(target)
    except InvalidUrl:
        assert any("\ud800" <= c <= "\udfff" for c in target)
        return
    assert canonical_target(once) == once
    assert once.isascii()
    assert once.startswith("/")
    assert "/../" not in once.partition("?")[0] + "/"


@given(
    st.one_of(st.text(), st.text().map(lambda text: "http://" + text), st.tuples(st.text(), st.text()).map(lambda two: f"https://{two[0]}/{two[1]}"))
)
def test_no_text_gets_a_traceback(text: str) -> None:
    try:
        url = canonical_url(text)
    except InvalidUrl:
        return
    assert canonical_url("https://" + url) == url


@pytest.mark.parametrize(
    ("target", "canonical"),
    [
        ("", "/"),
        ("?x=1", "/?x=1"),
        ("/a/../../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a//../b", "/a/b"),
        ("/a//b", "/a//b"),
        ("/%2e%2E/secret", "/secret"),
        ("/.well-known/.x/..y", "/.well-known/.x/..y"),
        ("/a?q=/../b", "/a?q=/../b"),
        ("/%41%%41", "/A%25A"),
        ("/100%", "/100%25"),
    ],
)
def test_dots_and_escapes_are_resolved_as_the_rfc_says(target: str, canonical: str) -> None:
    assert canonical_target(target) == canonical


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.com/a", "https://example.com/A"),
        ("https://example.com/a", "https://example.com/a/"),
        ("https://example.com/a", "https://example.com/a?"),
        ("https://example.com/a/b", "https://example.com/a%2Fb"),
        ("https://example.com/?a", "https://example.com/%3Fa"),
        ("https://example.com/", "https://example.com:8080/"),
    ],
)
def test_urls_that_are_two_objects_stay_two(one: str, other: str) -> None:
    assert canonical_url(one) != canonical_url(other)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "expected an absolute URL such as https://example.com/path"),
        ("example.com/a", "expected an absolute URL such as https://example.com/path"),
        ("//example.com/a", "expected an absolute URL such as https://example.com/path"),
        ("ftp://example.com/a", "the scheme is 'ftp'; expected http or https"),
        ("https://example.com/a\nb", "the URL holds a control character; percent-encode it or leave it out"),
        ("https://example.com/\x7f", "the URL holds a control character; percent-encode it or leave it out"),
        (
            "https://me:secret@example.com/",
            "the authority 'me:secret@example.com' is malformed; expected host or host:port, without user information",
        ),
        ("https:///a", "the authority '' is malformed; expected host or host:port, without user information"),
        ("https://exa mple.com/", "the host 'exa mple.com' is malformed; expected a domain name or an IP address"),
        ("https://-example.com/", "the host '-example.com' is malformed; expected a domain name or an IP address"),
        ("https://example..com/", "the host 'example..com' is malformed; expected a domain name or an IP address"),
        ("https://./", "the host '' is malformed; expected a domain name or an IP address"),
        ("https://example.com:65536/", "the port 65536 is out of range; expected 1 to 65535"),
        ("https://example.com:x/", "the authority 'example.com:x' is malformed; expected host or host:port, without user information"),
        ("https://example.com/\ud800", "the URL holds half of a surrogate pair; expected valid Unicode"),
    ],
)
def test_a_text_that_is_no_url_is_told_what_was_expected(text: str, told: str) -> None:
    with pytest.raises(InvalidUrl) as caught:
        canonical_url(text)
    assert str(caught.value) == told


def test_an_international_name_that_does_not_exist_is_told_why() -> None:
    with pytest.raises(InvalidUrl, match="is not a valid international domain name: "):
        canonical_url("https://a\u2028b.example/")


def test_the_last_port_is_a_port() -> None:
    assert canonical_authority("example.com:65535") == "example.com:65535"


def test_a_host_is_at_most_as_long_as_dns_allows() -> None:
    longest = ".".join(["a" * 63] * 4)
    assert canonical_authority(longest) == longest
    with pytest.raises(InvalidUrl, match="malformed"):
        canonical_authority(longest + "a")


def test_a_url_is_bounded_before_and_after_encoding() -> None:
    longest = "/" + "a" * (URL_BYTES_MAX - 1)
    assert canonical_target(longest) == longest
    with pytest.raises(InvalidUrl, match=r"^the URL has 8193 bytes; expected at most 8192$"):
        canonical_target(longest + "a")
    most_spaces = "/" + " " * ((URL_BYTES_MAX - 1) // 3)
    assert len(canonical_target(most_spaces)) == URL_BYTES_MAX - 1
    with pytest.raises(InvalidUrl, match=r"^the URL has 8194 bytes once encoded; expected at most 8192$"):
        canonical_target(most_spaces + " ")


def test_the_fragment_never_reaches_a_cache() -> None:
    assert split_url("HTTP://example.com?x#/a?b") == ("example.com", "?x")
