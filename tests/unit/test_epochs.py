"""The purge table never forgets a purge; what it adds is bounded and known."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.core.canonical import canonical_url
from agezero.core.epochs import _SEED, LENGTHS_MAX, EpochTable, Gates, Write, collateral, hash_step, slot_of, tag_slot
from agezero.core.selector import EVERYTHING, Kind, Selector

GOLDEN = [3921361784, 457936931, 3364212590, 725629104, 2557765562]


@dataclass
class Model:
    """What the table stands for: every purge ever made."""

    purges: list[tuple[int, Selector]] = field(default_factory=list)

    def newest(self, url: str, tags: frozenset[str] = frozenset(["sale", "red"])) -> int:
        """Where its tags are not known, any."""
        return max((seq for seq, selector in self.purges if selector.matches(url, tags)), default=0)


def table(slots: int = 1 << 10) -> EpochTable:
    return EpochTable(array("Q", bytes(8 * slots)))


hosts = st.sampled_from(["a.example", "b.example:81", "long.name.example"])
paths = st.text("ab/?", max_size=8).map(lambda text: "/" + text)
urls = st.tuples(hosts, paths).map(lambda pair: canonical_url(f"http://{pair[0]}{pair[1]}"))
selectors = st.one_of(
    urls.map(lambda url: Selector(Kind.URL, url)),
    urls.map(lambda url: Selector(Kind.PREFIX, url)),
    hosts.map(lambda host: Selector(Kind.HOST, host)),
)
rare = st.sampled_from([EVERYTHING, Selector(Kind.TAG, "sale"), Selector(Kind.TAG, "red")])
purges = st.lists(st.one_of(selectors, selectors, selectors, rare), max_size=40).map(lambda chosen: list(enumerate(chosen, 1)))


@given(purges, st.permutations(range(40)), st.integers(0, 6), st.lists(urls, min_size=1, max_size=8))
def test_no_purge_is_ever_forgotten_in_whatever_order_it_was_applied(
    made: list[tuple[int, Selector]], order: list[int], bits: int, asked: list[str]
) -> None:
    epochs, model = table(1 << bits), Model(made)
    for i in order:
        if i < len(made):
            epochs.apply(*made[i])
    for url in asked:
        assert epochs.newest(url) >= model.newest(url)


@given(purges, st.lists(urls, min_size=1, max_size=5))
def test_the_answer_for_a_url_never_falls(made: list[tuple[int, Selector]], asked: list[str]) -> None:
    epochs, before = table(16), dict.fromkeys(asked, 0)
    for seq, selector in made:
        epochs.apply(seq, selector)
        for url, last in before.items():
            before[url] = epochs.newest(url)
            assert before[url] >= last


@given(purges)
def test_applying_a_purge_again_changes_nothing(made: list[tuple[int, Selector]]) -> None:
    once, twice = table(), table()
    for seq, selector in made:
        once.apply(seq, selector)
        twice.apply(seq, selector)
    for seq, selector in made:
        twice.apply(seq, selector)
    assert twice.slots == once.slots
    assert twice.everything == once.everything


@given(purges, urls)
def test_a_copy_that_repeats_the_writes_answers_the_same(made: list[tuple[int, Selector]], url: str) -> None:
    original, copied, everything = table(64), array("Q", bytes(8 * 64)), 0
    for seq, selector in made:
        write = original.apply(seq, selector)
        assert write.seq >= seq
        if write.slot is None:
            everything = write.seq
        else:
            copied[write.slot] = write.seq
    assert EpochTable(copied, everything, original.gates, original.tags).newest(url) == original.newest(url)


def test_with_many_slots_and_few_purges_next_to_nothing_else_is_purged() -> None:
    draw = random.Random(7)
    epochs, model = table(1 << 16), Model()
    names = [f"example.com/{draw.choice('abc')}/{draw.randrange(10**6)}" for _ in range(2000)]
    for seq, url in enumerate(draw.sample(names, 100), 1):
        epochs.apply(seq, Selector(Kind.URL, url))
        model.purges.append((seq, Selector(Kind.URL, url)))
    different = sum(epochs.newest(url) != model.newest(url) for url in names)
    assert different <= 20


def test_each_kind_reaches_what_it_names_and_nothing_beside_it() -> None:
    named = {
        Selector(Kind.URL, "a.example/x"): ("a.example/x", "a.example/x?"),
        Selector(Kind.PREFIX, "a.example/x"): ("a.example/xy", "a.example/y"),
        Selector(Kind.PREFIX, "a.example/x/"): ("a.example/x/y/z", "a.example/x"),
        Selector(Kind.PREFIX, "a.example/x?q="): ("a.example/x?q=1", "a.example/x"),
        Selector(Kind.HOST, "a.example"): ("a.example/", "a.example:81/"),
    }
    for selector, (inside, outside) in named.items():
        epochs = table(1 << 16)
        epochs.apply(9, selector)
        assert (epochs.newest(inside), epochs.newest(outside)) == (9, 0), selector


def test_a_purge_of_everything_reaches_everything() -> None:
    epochs = table()
    assert epochs.apply(5, EVERYTHING) == Write(None, 5)
    assert epochs.newest("a.example/") == 5


def test_an_older_purge_of_everything_takes_nothing_back() -> None:
    epochs = table()
    epochs.apply(5, EVERYTHING)
    assert epochs.apply(4, EVERYTHING) == Write(None, 5)


def test_a_tag_has_a_slot_and_counts_for_all_whose_tags_are_unknown() -> None:
    epochs = table()
    epochs.apply(2, Selector(Kind.URL, "a.example/"))
    assert epochs.apply(4, Selector(Kind.TAG, "sale")) == Write(tag_slot("sale", 1 << 10), 4)
    assert epochs.apply(3, Selector(Kind.TAG, "red")) == Write(tag_slot("red", 1 << 10), 3)
    assert (epochs.tags, epochs.everything) == (4, 0)
    assert (epochs.newest("a.example/"), epochs.newest("a.example/b")) == (4, 4)
    assert [epochs.newest_of("a.example/", tags) for tags in ([], ["red"], ["red", "sale"], ["blue"])] == [2, 3, 4, 2]


@given(purges, st.lists(urls, min_size=1, max_size=8), st.frozensets(st.sampled_from(["sale", "red", "blue"])))
def test_no_purge_of_a_known_tag_is_forgotten_and_no_other_counts(made: list[tuple[int, Selector]], asked: list[str], tags: frozenset[str]) -> None:
    epochs, model = table(1 << 20), Model(made)
    for purge in made:
        epochs.apply(*purge)
    for url in asked:
        assert model.newest(url, tags) <= epochs.newest_of(url, tags) <= epochs.newest(url)


def test_a_table_is_opened_with_its_newest_purge_of_a_tag() -> None:
    assert EpochTable([0], tags=7).newest("a.example/") == 7


def of_length(length: int) -> Selector:
    return Selector(Kind.PREFIX, "a.example/".ljust(length, "x"))


def full() -> EpochTable:
    """A table whose list of lengths is full: 12, 14, …"""
    epochs = table(1 << 16)
    for i in range(LENGTHS_MAX):
        epochs.apply(i + 1, of_length(12 + 2 * i))
    return epochs


def test_when_the_list_of_lengths_is_full_a_prefix_is_cut_to_the_longest_that_is_listed() -> None:
    epochs = full()
    epochs.apply(100, Selector(Kind.PREFIX, "a.example/yyyyy"))
    assert len(epochs.gates.lengths) == LENGTHS_MAX
    assert epochs.newest("a.example/yyyyy-and-more") == 100
    assert epochs.newest("a.example/yyyy") == 100  # 14 characters: wider
    assert epochs.newest("a.example/yyxx") == 0


def test_when_no_listed_length_fits_a_prefix_is_cut_to_the_slash_before() -> None:
    epochs = full()
    epochs.apply(100, Selector(Kind.PREFIX, "a.example/y"))
    assert epochs.newest("a.example/y") == epochs.newest("a.example/zzz") == 100
    assert epochs.newest("b.example/y") == 0


def test_a_listed_length_stays_exact_when_the_list_is_full() -> None:
    epochs = full()
    epochs.apply(100, Selector(Kind.PREFIX, "a.example/yyyy"))
    assert (epochs.newest("a.example/yyyyy"), epochs.newest("a.example/yyy")) == (100, 0)


def test_a_purge_of_everything_makes_room_for_the_lengths_that_it_outdates_only() -> None:
    epochs = full()
    epochs.apply(LENGTHS_MAX - 1, EVERYTHING)
    assert epochs.gates.lengths == {12 + 2 * (LENGTHS_MAX - 1): LENGTHS_MAX}
    epochs.apply(LENGTHS_MAX + 5, EVERYTHING)
    assert epochs.gates.lengths == {}


def test_a_length_stays_listed_for_its_newest_purge_even_if_an_older_one_comes_later() -> None:
    epochs = table()
    epochs.apply(9, of_length(15))
    epochs.apply(3, of_length(15))
    epochs.apply(5, EVERYTHING)
    assert epochs.newest("a.example/xxxxxx") == 9


def test_a_prefix_that_ends_at_a_slash_of_the_path_takes_no_length() -> None:
    epochs = table(1 << 16)
    epochs.apply(7, Selector(Kind.PREFIX, "a.example/x/y/"))
    assert (epochs.gates.lengths, epochs.gates.slash) == ({}, True)
    assert (epochs.newest("a.example/x/y/z"), epochs.newest("a.example/x/z")) == (7, 0)


def test_a_slash_in_the_query_is_no_end_of_a_path() -> None:
    epochs = table()
    epochs.apply(7, Selector(Kind.PREFIX, "a.example/x?back=/"))
    assert epochs.newest("a.example/x?back=/home") == 7


def test_the_slots_that_were_touched_are_counted_once_each() -> None:
    epochs = table(1 << 16)
    for seq, name in enumerate(["a", "b", "a"], 1):
        epochs.apply(seq, Selector(Kind.URL, f"a.example/{name}"))
    epochs.apply(4, EVERYTHING)
    assert epochs.used == EpochTable(epochs.slots).used == 2


def test_lookups_that_nobody_needs_are_not_made() -> None:
    epochs = table()
    assert len(list(epochs.places("a.example/b/c?d/e"))) == 1
    epochs.apply(1, Selector(Kind.HOST, "b.example"))
    assert len(list(epochs.places("a.example/b/c?d/e"))) == 2
    epochs.apply(1, Selector(Kind.PREFIX, "b.example/"))
    assert len(list(epochs.places("a.example/b/c?d/e"))) == 4  # the slash in the query is none
    epochs.apply(1, of_length(13))
    epochs.apply(1, of_length(18))  # longer than the URL
    assert len(list(epochs.places("a.example/b/c?d/e"))) == 5


def test_a_table_goes_on_from_where_its_file_ended() -> None:
    epochs = EpochTable(array("Q", [0] * 8), 4, Gates(host=True))
    assert epochs.newest("a.example/") == 4
    assert epochs.gates.host


@pytest.mark.parametrize("slots", [0, 3, 6, 1000])
def test_a_table_has_a_power_of_two_of_slots(slots: int) -> None:
    with pytest.raises(ValueError, match=rf"^the number of slots must be a power of two, not {slots}$"):
        table(slots)


def test_the_hash_is_the_one_that_the_edges_were_told() -> None:
    # Golden: the same numbers stand in files and in njs; a change loses every purge in them.
    state = hash_step(_SEED, "example.com/a")
    assert hash_step(hash_step(_SEED, "example.com"), "/a") == state
    assert [state, *(slot_of(state, kind, 1 << 32) for kind in (Kind.URL, Kind.PREFIX, Kind.HOST, Kind.TAG))] == GOLDEN


def test_the_hash_spreads_like_chance_would() -> None:
    counts = [0] * 256
    for i in range(256 * 64):
        counts[slot_of(hash_step(_SEED, f"example.com/images/{i}.jpg"), Kind.URL, 256)] += 1
    chi_squared = sum((count - 64) ** 2 / 64 for count in counts)
    assert chi_squared < 350  # of 255 degrees of freedom; chance passes this once in 10^4


@pytest.mark.parametrize(
    ("purges_made", "slots", "looked_up", "chance"),
    [(0, 1024, 1, 0.0), (1, 1, 1, 1.0), (1, 4, 8, 1.0), (1, 1024, 1, 1 / 1024), (2, 4, 1, 7 / 16), (2, 4, 2, 3 / 4)],
)
def test_collateral_is_a_formula(purges_made: int, slots: int, looked_up: int, chance: float) -> None:
    assert collateral(purges_made, slots, looked_up) == pytest.approx(chance)


def test_collateral_counts_one_lookup_unless_told_otherwise() -> None:
    assert collateral(1, 2) == 0.5


def test_collateral_is_what_a_real_table_shows() -> None:
    draw, slots, purges_made = random.Random(11), 1 << 12, 400
    epochs = table(slots)
    epochs.apply(1, Selector(Kind.HOST, "other.example"))
    epochs.apply(2, Selector(Kind.PREFIX, "other.example/"))
    for seq in range(3, purges_made + 1):
        epochs.apply(seq, Selector(Kind.URL, f"other.example/{draw.randrange(10**9)}"))
    objects = [f"{i}.example/a/{i}" for i in range(4000)]  # each looks at its URL, its host and two slashes
    hit = sum(epochs.newest(url) > 0 for url in objects) / len(objects)
    assert hit == pytest.approx(collateral(purges_made, slots, 4), rel=0.1)
