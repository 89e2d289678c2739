"""The checker of histories itself: it must see each kind of violation, and nothing where there is none."""

from __future__ import annotations

import pytest

from support.history import History, Poll, Purge, Read

PURGE = Purge("id", "/a/b", sent_s=10)
PREFIX = Purge("id", "/a/*", sent_s=10)


def completed(purge: Purge = PURGE) -> History:
    """The purge was sent at 10 and read `Completed` at 12."""
    history = History()
    history.accepted(purge)
    history.polled(Poll("id", 11, 12, "Completed"))
    return history


@pytest.mark.parametrize("purge", [PURGE, PREFIX])
def test_old_content_after_completed_is_not_honest(purge: Purge) -> None:
    history = completed(purge)
    history.read(Read("/a/b", sent_s=12.001, fetched_s=9.999, told="edge; hit"))
    assert [text.partition(":")[0] for text in history.violations] == ["honest"]


@pytest.mark.parametrize(
    "read",
    [
        Read("/a/b", sent_s=12.001, fetched_s=10.001, told=""),
        Read("/a/b", sent_s=11.999, fetched_s=9.999, told=""),
        Read("/b/b", sent_s=12.001, fetched_s=9.999, told=""),
    ],
    ids=["fetched later", "concurrent with Completed", "not named"],
)
def test_what_is_allowed(read: Read) -> None:
    history = completed(PREFIX)
    history.read(read)
    assert not history.violations


def test_an_older_purge_completed_later_takes_nothing_back() -> None:
    history = completed()
    history.accepted(Purge("older", "/a/b", sent_s=5))
    history.polled(Poll("older", 13, 14, "Completed"))
    history.read(Read("/a/b", sent_s=15, fetched_s=9, told=""))
    assert len(history.violations) == 1


def test_a_status_that_goes_back() -> None:
    history = completed()
    history.polled(Poll("id", 11.5, 13, "Pending"))
    assert not history.violations, "that one was sent before"
    history.polled(Poll("id", 12.5, 13, "Pending"))
    assert history.violations[0].startswith("monotone")


def test_an_id_that_is_lost() -> None:
    history = completed()
    history.polled(Poll("id", 13, 14, "unknown"))
    history.accepted(Purge("never", "/c", sent_s=15))
    history.healed(["id", "never"])
    assert [text.partition(":")[0] for text in history.violations] == ["no loss", "no loss"]
