"""docs/API.md tells the truth: every error that can be answered stands in its table, and its canonical forms are the core's."""

from __future__ import annotations

import re

import pytest

from agezero.core.canonical import canonical_url
from agezero.http.faults import Fault
from support.docs import API_PAGE

PAGE = API_PAGE.read_text(encoding="utf-8")


def test_the_error_table_and_the_faults_are_the_same() -> None:
    documented = {(int(status), message) for status, message in re.findall(r"^\| (\d{3}) \| `([^`]+)` \|", PAGE, re.MULTILINE)}
    assert documented == {(fault.status, fault.message) for fault in Fault}


def test_the_anchor_that_errors_point_to_exists() -> None:
    assert all(fault.advice.endswith("docs/API.md#errors.") for fault in Fault)
    assert "\n## Errors\n" in PAGE


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("HTTPS://CDN.Example.com:443/a", "cdn.example.com/a"),
        ("https://bücher.example.com/", "xn--bcher-kva.example.com/"),
        ("https://cdn.example.com", "cdn.example.com/"),
        ("http://h/%7euser", "h/~user"),
        ("http://h/a b", "h/a%20b"),
        ("http://h/a%2fb", "h/a%2Fb"),
        ("http://h/a/./b/../c", "h/a/c"),
        ("http://h/a#part", "h/a"),
    ],
)
def test_the_canonical_forms_on_the_page_are_real(written: str, meant: str) -> None:
    for text in (written, meant):
        assert text.removeprefix("http://h").removeprefix("h") in PAGE
    assert canonical_url(written) == meant


@pytest.mark.parametrize(("left", "right"), [("/a", "/a/"), ("/a//b", "/a/b"), ("/a?x=1&y=2", "/a?y=2&x=1"), ("/a", "/a?"), ("/a", "/A")])
def test_what_the_page_says_is_kept_apart_is_kept_apart(left: str, right: str) -> None:
    assert canonical_url(f"http://h{left}") != canonical_url(f"http://h{right}")
