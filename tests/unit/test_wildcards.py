from __future__ import annotations

import pytest

from agezero.core.selector import parse_url
from agezero.core.wildcards import Wildcards, broken_rule

ALLOWED = ["/a/b*", "/a/b/*", "/sample.jpg*", "/fourteen-chars*", "/a/sample.jpg*", "/sample.jpg?tr=*", "/a%20b/c*", "//sample.jpg*"]
REFUSED = ["/*", "/a*", "/a/*", "/thirteen-cha*", "/sample.*", "/.jpg*", "/?long-query-without-path*", "/a//*", "/a/b/../*"]


@pytest.mark.parametrize("path", ALLOWED)
def test_wildcards_that_imagekit_allows(path: str) -> None:
    assert broken_rule(parse_url(f"https://cdn.example.com{path}"), Wildcards.IMAGEKIT) is None


@pytest.mark.parametrize("path", REFUSED)
def test_wildcards_that_match_too_much_are_refused_with_the_rule(path: str) -> None:
    selector = parse_url(f"https://cdn.example.com{path}")
    rule = broken_rule(selector, Wildcards.IMAGEKIT)
    assert rule is not None
    assert all(part in rule for part in ("path level", "2 levels", "15 characters", "file name with extension"))
    assert broken_rule(selector, Wildcards.ANY) is None


def test_the_rule_quotes_the_wildcard() -> None:
    rule = broken_rule(parse_url("https://cdn.example.com/a*"), Wildcards.IMAGEKIT)
    assert str(rule).startswith("the wildcard in '/a*' matches too much: it has 1 path level(s) and 2 characters; expected at least 2 levels")


def test_a_url_without_wildcard_has_no_rule_to_break() -> None:
    assert broken_rule(parse_url("https://cdn.example.com/a"), Wildcards.IMAGEKIT) is None


def test_a_path_of_exactly_fifteen_characters_is_long_enough() -> None:
    for length, allowed in ((14, False), (15, True)):
        path = "/".ljust(length, "x")
        assert (broken_rule(parse_url(f"https://cdn.example.com{path}*"), Wildcards.IMAGEKIT) is None) is allowed
