"""What the driver computes for agezero.vcl: names that each spelling shares, and expressions that hold nothing but what they should."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.core.canonical import canonical_url
from agezero.core.selector import EVERYTHING, Kind, Selector, canonical_prefix
from agezero.edges.varnish import names
from agezero.edges.varnish.bans import HOSTS_MAX, LIVE_S, PREFIXES_MAX, Bans, merged
from agezero.edges.varnish.settling import Command, Places, Unsettled, due_of, settling
from agezero.edges.varnish.vcl import PLACES, SAFEGUARDS, vcl

TARGETS = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="#\x7f"), max_size=30).map("/".__add__)
STORABLE = re.compile(r"%(?:2[DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])|^[^?]*/\.\.?(?:[/?]|$)")
PLAIN = re.compile(r"[A-Za-z0-9 .~^()?:\\|\[\]!=\-_$]*")


def prefix(text: str) -> Selector:
    return Selector(Kind.PREFIX, text)


def storable(target: str) -> bool:
    """As agezero.vcl decides."""
    return STORABLE.search(target) is None


@given(TARGETS.filter(storable))
def test_a_spelling_that_is_stored_shares_its_bones_with_the_canonical_one(target: str) -> None:
    asked = "example.com" + target.encode().decode("latin-1")
    assert names.bones(asked) == names.bones(canonical_url("http://example.com" + target))


@given(TARGETS.filter(storable), st.integers(0, 40))
def test_a_prefix_finds_each_spelling_that_is_stored(target: str, cut: int) -> None:
    purged = prefix("example.com" + canonical_prefix(target[: cut + 1]))
    if not canonical_url("http://example.com" + target).startswith(purged.value):
        return
    field, _, expression = names.ban(purged).partition(" ~ ")
    assert field == "obj.http.AgeZero-Url"
    assert re.match(expression.encode("ascii"), ("example.com" + target).encode())


@given(TARGETS.filter(storable), TARGETS)
def test_a_prefix_finds_nothing_else(target: str, other: str) -> None:
    purged, url = prefix("example.com" + canonical_prefix(target)), canonical_url("http://example.com" + other)
    expression = names.ban(purged).partition(" ~ ")[2]
    assert bool(re.match(expression.encode("ascii"), url.encode())) == url.startswith(purged.value)


@given(st.text(max_size=50))
def test_no_ban_holds_anything_of_its_own_syntax(text: str) -> None:
    for selector in (prefix("example.com/" + canonical_prefix("/" + re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "", text))), EVERYTHING):
        assert PLAIN.fullmatch(names.ban(selector))
    tag = names.tag_key(text)
    assert tag is None or PLAIN.fullmatch(names.tag_ban([tag]))


@given(TARGETS.filter(storable), st.integers(0, 40))
def test_a_prefix_moves_a_counter_that_each_of_its_urls_looks_at(target: str, cut: int) -> None:
    url = canonical_url("http://example.com" + target)
    purged = prefix(url[: max(len("example.com/"), cut)])
    bones = names.bones(url)
    folder = re.match(r"[^/]*/[^/?]*/", bones)
    looked_at = {f"h{names.key('example.com/') % 10**4:04}", "e"}
    if folder:
        looked_at.add(f"p{names.key(folder[0]) % 10**4:04}")
    assert names.counter(purged) in looked_at


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ([prefix("a/b"), prefix("a/bc"), prefix("a/b/c")], [prefix("a/b")]),
        ([prefix("a/b"), Selector(Kind.HOST, "a"), prefix("b/")], [Selector(Kind.HOST, "a"), prefix("b/")]),
        ([prefix("a/b"), EVERYTHING, Selector(Kind.HOST, "a")], [EVERYTHING]),
    ],
)
def test_bans_that_others_cover_are_left_out(given_: list[Selector], kept: list[Selector]) -> None:
    assert merged(given_) == kept


def test_beyond_a_number_bans_become_wider_and_later_narrow_again() -> None:
    bans = Bans()
    for number in range(10 * PREFIXES_MAX):
        planned = bans.plan([prefix(f"a/{number}/")], 0.0)
        assert planned in ([prefix(f"a/{number}/")], [Selector(Kind.HOST, "a")])
    assert bans.count() <= PREFIXES_MAX + HOSTS_MAX + 1
    for number in range(HOSTS_MAX + 2):
        planned = bans.plan([Selector(Kind.HOST, f"host{number}")], 0.0)
    assert planned == [EVERYTHING]
    assert bans.plan([prefix("a/new/")], LIVE_S) == [prefix("a/new/")]


def test_places_run_out_and_come_back() -> None:
    places = Places()
    command = Command("/ban", {"AgeZero-Ban": "x"}, wide="=a/")
    taken = [places.put(command) for _ in range(PLACES)]
    assert len({entry.place for entry in taken}) == PLACES
    assert places.put(command).command.headers["AgeZero-Place"] == "crowded"
    places.release(taken[:1])
    assert places.put(command).place == taken[0].place
    assert places.put(Command("/tags", {"AgeZero-Keys": "a b"})).command.headers["AgeZero-Place"] == "crowded"
    assert not places.put(Command("/urls", {"AgeZero-Keys": "az1"})).place


def test_what_was_given_together_is_settled_together() -> None:
    entries = [Unsettled(Command("/urls", {"AgeZero-Keys": f"az{number}"}), given_s=number / 20, since=number) for number in range(5)]
    due = due_of(entries)
    assert due == entries[:3]
    (command,) = settling(due)
    assert command.headers["AgeZero-Since"] == "2.001", "Varnish rounds"
    assert command.headers["AgeZero-Ban"] == "obj.http.AgeZero-Key ~ ^(?:0|1|2)$"
    assert not due_of([])


@pytest.mark.parametrize("without", sorted(SAFEGUARDS))
def test_each_safeguard_is_some_part_of_the_vcl(without: str) -> None:
    whole = vcl()
    assert not re.search(r"@[A-Z_]+@|^#[+-]\w", whole, re.MULTILINE), "everything is filled in"
    assert len(vcl(without=(without,))) < len(whole)
    assert "agezero_canary" in vcl("127.0.0.1:1")
    assert "agezero_canary" not in whole
