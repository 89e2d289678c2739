"""A request id opens to its purge and to no other, and only for the service that sealed it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agezero.core.purge import OPENED_MAX, SEQ_MAX, RequestIds, _keyed

SECRET = bytes(range(32))
SEALED = ["60ffeb00ae2b0073133d0ea3", "4b14dc643d7128797aa795d9", "6ed689987508ad2db8f78388"]

seqs = st.integers(1, SEQ_MAX)


def ids(secret: bytes = SECRET) -> RequestIds:
    return RequestIds(secret)


@given(seqs)
def test_an_id_opens_to_the_purge_it_was_given_for(seq: int) -> None:
    assert ids().open(ids().seal(seq)) == seq


@given(seqs)
def test_an_id_has_the_length_and_alphabet_of_the_contract(seq: int) -> None:
    sealed = ids().seal(seq)
    assert len(sealed) == 24
    assert set(sealed) <= set("0123456789abcdef")


@given(seqs, st.integers(0, 23), st.integers(1, 15))
def test_a_changed_digit_never_opens(seq: int, place: int, change: int) -> None:
    sealed = ids().seal(seq)
    digit = f"{int(sealed[place], 16) ^ change:x}"
    assert ids().open(sealed[:place] + digit + sealed[place + 1 :]) is None


@given(seqs)
def test_another_services_id_never_opens(seq: int) -> None:
    assert ids(SECRET[::-1]).open(ids().seal(seq)) is None


@given(seqs, seqs)
def test_halves_of_two_ids_make_no_third(one: int, other: int) -> None:
    mixed = ids().seal(one)[:12] + ids().seal(other)[12:]
    assert ids().open(mixed) == (one if one == other else None)


@given(st.one_of(st.text(), st.text("0123456789abcdefABCDEF ", min_size=24, max_size=24), st.text("0123456789abcdef", min_size=24, max_size=24)))
def test_no_text_that_was_not_sealed_opens(text: str) -> None:
    assert ids().open(text) is None


def test_an_id_has_one_spelling() -> None:
    sealed = ids().seal(7)
    assert ids().open(sealed.upper()) is None
    assert ids().open(sealed + " ") is None
    assert ids().open("g" * 24) is None
    assert ids().open(sealed[:-1]) is None
    assert ids().open(" ".join(sealed[i : i + 2] for i in range(0, 16, 2)) + " ") is None  # 24 characters, 8 bytes


def test_a_seq_that_is_never_given_opens_nothing_even_if_it_was_sealed() -> None:
    tag = _keyed(ids()._tag, bytes(6))
    assert ids().open((tag + _keyed(ids()._mask, tag)).hex()) is None


def test_an_id_outlives_the_program_that_sealed_it() -> None:
    # Sealed once and for all: a change of the construction would orphan every id in clients' hands.
    assert [ids().seal(seq) for seq in (1, 2, SEQ_MAX)] == SEALED


def test_neighbouring_purges_have_ids_that_say_nothing_about_each_other() -> None:
    given_out = [ids().seal(seq) for seq in range(1, 1001)]
    assert len({sealed[:6] for sealed in given_out}) > 990
    assert len({sealed[-6:] for sealed in given_out}) > 990


@pytest.mark.parametrize("seq", [0, -1, SEQ_MAX + 1])
def test_a_seq_that_does_not_fit_is_refused(seq: int) -> None:
    with pytest.raises(ValueError, match=rf"^a seq lies between 1 and 2\^48-1, not at {seq}$"):
        ids().seal(seq)


def test_a_weak_secret_is_refused() -> None:
    assert RequestIds(bytes(32)).open("0" * 24) is None
    with pytest.raises(ValueError, match=r"^the sealing secret must have at least 32 bytes$"):
        RequestIds(bytes(31))


def test_a_long_secret_is_used_up_to_what_the_hash_takes() -> None:
    assert RequestIds(bytes(range(64)) + b"more").open(RequestIds(bytes(range(64))).seal(5)) == 5
    assert RequestIds(bytes(range(64))).open(RequestIds(bytes(range(63))).seal(5)) is None


def test_only_so_many_ids_are_remembered() -> None:
    assert ids().open.cache_info().maxsize == OPENED_MAX
