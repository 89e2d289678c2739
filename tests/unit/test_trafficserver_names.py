"""What Traffic Server makes of a URL, as it was measured, against the purges that are to reach it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.core.canonical import canonical_target
from agezero.core.selector import EVERYTHING, Kind, Selector, canonical_prefix
from agezero.edges.trafficserver.spellings import SLASHES_MAX, spellings

TARGETS = st.text("/;?ab.", max_size=12).map(lambda text: "/" + text)


def seen(target: str) -> str | None:
    """The path and query that its script is given, None: a path that it does not cache."""
    path, _, query = ("/" + target.lstrip("/") if target.startswith("//") else target).partition("?")
    path = path[:-1] if path.find(";") == len(path) - 1 else path
    if path.endswith(("/.", "/..")):
        return None
    return f"{path}?{query}" if query else path


@pytest.mark.parametrize(
    ("target", "left"),
    [
        *[("/x?", "/x"), ("//y", "/y"), ("///y", "/y"), ("//", "/"), ("/x;", "/x"), ("/a;?q", "/a?q"), ("/a;b;", "/a;b;"), ("/a;;", "/a;;")],
        *[("/x??", "/x??"), ("/;?", "/"), ("/a//", "/a//"), ("/a/b;/c;", "/a/b;/c;"), ("/a?;", "/a?;"), ("//;", "/")],
    ],
)
def test_the_model_says_what_was_measured(target: str, left: str) -> None:
    assert seen(target) == left


def reached(selectors: list[Selector], target: str) -> bool:
    left = seen(target)
    return left is None or any(selector.matches("h" + canonical_target(left)) for selector in selectors)


@given(TARGETS)
def test_a_purged_url_is_reached_however_it_is_asked_for(target: str) -> None:
    named = Selector(Kind.URL, "h" + canonical_target(target))
    assert reached(spellings(named), target)


@given(TARGETS, TARGETS)
def test_what_a_purged_prefix_names_is_reached(prefix: str, rest: str) -> None:
    named = Selector(Kind.PREFIX, "h" + canonical_prefix(prefix))
    target = prefix + rest[1:]
    if named.matches("h" + canonical_target(target)):
        assert reached(spellings(named), target)


@given(TARGETS, st.sampled_from([Kind.URL, Kind.PREFIX]))
def test_what_was_named_stays_named_or_is_widened(target: str, kind: Kind) -> None:
    named = Selector(kind, "h" + canonical_target(target))
    assert spellings(named)[0] == named


@pytest.mark.parametrize("selector", [Selector(Kind.URL, "h/a/b?c"), Selector(Kind.PREFIX, "h/a"), Selector(Kind.HOST, "h"), EVERYTHING])
def test_what_has_one_spelling_costs_one_write(selector: Selector) -> None:
    assert spellings(selector) == [selector]


def test_many_slashes_are_the_whole_host() -> None:
    url = Selector(Kind.URL, "h" + "/" * (SLASHES_MAX + 1))
    assert spellings(url) == [url, Selector(Kind.PREFIX, "h/")]
