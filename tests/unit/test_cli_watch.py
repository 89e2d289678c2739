"""`agezero watch` in its parts: what has changed on a real disk, what that is called, and that nothing gets lost on the way."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agezero.cli.output import CommandFailed
from agezero.cli.targets import Target
from agezero.cli.watch import events, outbox
from agezero.cli.watch.names import base_of, targets
from agezero.cli.watch.outbox import Outbox
from agezero.cli.watch.tree import PARTS_MAX, Tree
from support.waiting import wait_for

BASE = "https://h/m/"
LATER_NS = 10**20


def urls(*paths: str, queries: bool = False) -> list[str]:
    return [("" if target.kind == "urls" else "prefix ") + target.text.removeprefix(BASE) for target in targets(BASE, paths, queries=queries)]


def test_names_are_encoded_in_both_ways_that_clients_do() -> None:
    assert urls("a/b.jpg", "~x-_.1") == ["a/b.jpg", "~x-_.1"]
    assert urls("ü b#c?d%.jpg") == ["%C3%BC%20b%23c%3Fd%25.jpg"]
    assert urls("a+b,c") == ["a%2Bb%2Cc", "a+b,c"]
    assert urls(os.fsdecode(b"\xff")) == ["%FF"]
    assert urls("a/*x") == ["a/%2Ax", "prefix a/"]


def test_an_index_is_its_directory_too() -> None:
    assert urls("index.html") == ["index.html", ""]
    assert urls("a/b/index.html") == ["a/b/index.html", "a/b/", "a/b"]
    assert urls("a/index.htm") == ["a/index.htm"]
    assert urls("a.css", queries=True) == ["a.css", "prefix a.css?"]


def test_where_it_is_served() -> None:
    assert base_of("https://h") == "https://h/"
    assert base_of("http://h/a/") == "http://h/a/"
    for wrong in ("h/a", "ftp://h/", "https://", "https://h/?q", "https://h/#f", "https://h/*", "http://["):
        with pytest.raises(CommandFailed):
            base_of(wrong)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name in ("a", "b", "d/c", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    found = Tree(str(tmp_path), lambda path: path == ".git", lambda: LATER_NS)
    assert found.refresh() == {"a", "b", "d/c"}
    assert found.refresh() == set()
    return found


def test_what_changed_is_found_without_any_event(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("2")
    (tmp_path / "b").rename(tmp_path / "b2")
    (tmp_path / "d").rename(tmp_path / "e")
    os.mkfifo(tmp_path / "pipe")
    assert tree.refresh() == {"a", "b", "b2", "d/c", "e/c"}
    assert tree.refresh() == set()
    shutil.rmtree(tmp_path)
    assert tree.refresh() == {"a", "b2", "e/c"}


def test_an_event_is_believed_and_a_directory_is_looked_into(tree: Tree, tmp_path: Path) -> None:
    assert tree.look(["a"]) == {"a"}, "it may have changed and look the same"
    assert tree.look([".git/HEAD", ".git"]) == set()
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "deep" / "x").write_text("1")
    assert tree.look(["new"]) == {"new/deep/x"}, "its files were there before anybody could tell of them"
    shutil.rmtree(tmp_path / "d")
    (tmp_path / "a").unlink()
    assert tree.look(["d", "a"]) == {"d/c", "a"}
    assert tree.refresh() == set()
    (tmp_path / "b").write_text("2")
    assert tree.look([f"nobody{n}" for n in range(PARTS_MAX + 1)]) == {"b"}
    (tmp_path / "b").unlink()
    assert tree.look([""]) == {"b"}


def test_a_change_that_can_not_be_told_from_the_one_before_counts(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    ctime_ns = (tmp_path / "a").stat().st_ctime_ns
    clock = [ctime_ns + 1]
    tree = Tree(str(tmp_path), now_ns=lambda: clock[0])
    tree.refresh()
    clock[0] = LATER_NS
    assert tree.refresh() == {"a"}
    assert tree.refresh() == set()


def test_links_are_followed_and_circles_end(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "d" / "up").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "link").symlink_to("a")
    found = tree.refresh()
    assert "link" in found
    assert "broken" not in found
    assert all(path.count("up") <= 1 for path in found)


def target(name: str) -> Target:
    return Target("urls", BASE + name)


def test_what_is_not_accepted_is_kept_and_what_changes_meanwhile_is_sent_again() -> None:
    box = Outbox(Target("prefixes", BASE))
    box.add([target("a"), target("b")])
    assert box.take() == [target("a"), target("b")]
    box.add([target("a"), target("c")])
    box.back()
    assert len(box) == 3
    assert box.take() == [target("a"), target("b"), target("c")]
    box.add([target("a")])
    box.done()
    assert box.take() == [target("a")], "it changed after it was sent"
    box.done()
    box.close()
    assert box.take() == []


def test_without_that_it_would_be_lost() -> None:
    """The twin: a sender that takes an answer for granted."""
    box = Outbox(Target("prefixes", BASE))
    box.add([target("a")])
    box.take()
    box.done()  # although nobody accepted it
    box.close()
    assert box.take() == []


def test_very_many_changes_become_one_that_is_wider() -> None:
    everything = Target("prefixes", BASE)
    box = Outbox(everything)
    box.add(target(str(number)) for number in range(outbox.TARGETS_MAX))
    assert len(box) == outbox.TARGETS_MAX
    box.add([target("one more")])
    box.add([target("and another")])
    assert box.take() == [everything]
    box.add([target("later")])
    assert len(box) == 2


@contextmanager
def looking(root: Path) -> Iterator[list[tuple[str, ...]]]:
    """All that is to be looked at, as it comes; never all of it for the time that has passed."""
    stop, seen = threading.Event(), list[tuple[str, ...]]()

    def look() -> None:
        for paths in events.looks(str(root), 3600, stop):
            seen.append(paths)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        wait_for(lambda: seen, "all of it is looked at first")
        yield seen
    finally:
        stop.set()
        thread.join(30)


def _replace(root: Path) -> None:
    root.rename(root.with_name("old"))
    root.mkdir()


@pytest.mark.parametrize("kind", ["replaced", "link"])
def test_a_directory_that_is_replaced_is_followed_by_its_name(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    root.symlink_to("one") if kind == "link" else root.mkdir()
    with looking(root) as seen:
        assert seen[0][0] == ""
        if kind == "link":
            (tmp_path / "next").symlink_to("two")
            (tmp_path / "next").rename(root)
        else:
            _replace(root)
        wait_for(lambda: [paths for paths in seen[1:] if "" in paths], "all of it is looked at again")
        before = len(seen)
        (root / "later").write_text("1")

        def noticed() -> bool:
            (root / "later").touch()  # until it is watched again
            return any("later" in paths for paths in seen[before:])

        wait_for(noticed, "the new one is watched")


def test_without_that_the_new_one_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: a watcher that does not look whether the directory is still the same one."""
    monkeypatch.setattr(events, "_identity", lambda _: (0, 0))
    root = tmp_path / "root"
    root.mkdir()
    with looking(root) as seen:
        _replace(root)
        (root / "later").write_text("1")
        (tmp_path / "old" / "sign").write_text("1")
        wait_for(lambda: [paths for paths in seen if "sign" in paths], "the old one is still watched")
        assert not [paths for paths in seen if "later" in paths]


def test_where_the_kernel_tells_nothing_all_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def unable(*_: object, **__: object) -> None:
        raise OSError("limit reached")

    monkeypatch.setattr(events, "watch", unable)
    monkeypatch.setattr(events, "POLL_S", 0.01)
    with looking(tmp_path) as seen:
        wait_for(lambda: len(seen) > 3, "it goes on")
    assert set(seen) == {("",)} | {("", "")}
    assert "warning: the system does not tell of changes (limit reached)" in capsys.readouterr().err
