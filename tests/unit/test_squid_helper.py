from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, parse_url
from agezero.edges.slots import SlotFile
from agezero.edges.squid.helper import Helper, serve
from agezero.edges.squid.proof import LOOK_PATH, digest

HOUR_NS = 3600 * 10**9


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[SlotFile]:
    with SlotFile(tmp_path / "table", 1024) as open_slots:
        open_slots.readers.lease(time.monotonic_ns() + HOUR_NS)
        yield open_slots


@pytest.fixture
def helper(slots: SlotFile) -> Helper:
    return Helper(slots.path)


def key(answer: bytes) -> bytes:
    return answer.split(b'"')[1]


def test_the_key_is_the_url_behind_its_epoch(helper: Helper, slots: SlotFile) -> None:
    assert helper.answer(b"7 http://a.example/x?y GET") == b'7 OK store-id="http://e0.agezero.internal/http://a.example/x?y" agezero_=live\n'
    slots.apply([Purge(5, parse_url("http://a.example/x*"))])
    epoch = slots.base + 5
    assert key(helper.answer(b"7 http://a.example/x?y GET")) == b"http://e%d.agezero.internal/http://a.example/x?y" % epoch
    assert key(helper.answer(b"7 http://a.example/other GET")) == b"http://e0.agezero.internal/http://a.example/other"


def test_a_purge_reaches_every_spelling_and_spellings_have_keys_of_their_own(helper: Helper, slots: SlotFile) -> None:
    spellings = (b"http://a.example/b~c", b"http://a.example/b%7Ec", b"http://a.example/x/../b~c")
    before = {key(helper.answer(b"1 %s GET" % url)) for url in spellings}
    slots.apply([Purge(1, parse_url("http://a.example/b~c"))])
    after = {key(helper.answer(b"1 %s GET" % url)) for url in spellings}
    assert len(before | after) == 6


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"7",
        b"http://a.example/x GET",
        b"7 http://a.example/x",
        b"7 http://a.example/x POST",
        b"7 http://a.example/x GET more",
        b'7 http://a.example/"x" GET',
        b"7 http://a.example/x#y GET",
        b"7 http://a.example/\\ GET",
        b"7 http://a.example/\xff GET",
        b"7 http://user@a.example/ GET",
        b"7 a.example:443 GET",
        b"7 ftp://a.example/x GET",
        b"7 http://a.example/" + b"x" * 9000 + b" GET",
    ],
)
def test_what_is_not_understood_is_not_live(helper: Helper, line: bytes) -> None:
    answer = helper.answer(line)
    assert answer == line.partition(b" ")[0] + b" ERR\n"


def test_fenced_nothing_is_live(helper: Helper, slots: SlotFile) -> None:
    slots.readers.lease(0)
    assert helper.answer(b"1 http://a.example/x GET") == b"1 ERR\n"


def test_the_nonce_is_told_to_who_knows_it(helper: Helper, slots: SlotFile) -> None:
    nonce = slots.readers.challenge()
    look = f"http://agezero.internal{LOOK_PATH}".encode()
    assert helper.answer(b"1 %s%s GET" % (look, digest(nonce).encode())) == b'1 ERR agezero_look_="nonce=%d"\n' % nonce
    assert helper.answer(b"1 %s%s GET" % (look, b"0" * 32)) == b'1 ERR agezero_look_="fault=other-table"\n'


def test_without_a_table_it_says_so(tmp_path: Path) -> None:
    helper = Helper(tmp_path / "none")
    assert helper.answer(b"1 http://a.example/x GET") == b"1 ERR\n"
    assert helper.answer(b"1 http://a.example%s%s GET" % (LOOK_PATH.encode(), b"0" * 32)) == b'1 ERR agezero_look_="fault=no-table"\n'


def test_many_urls_do_not_fill_its_memory(helper: Helper, slots: SlotFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agezero.edges.squid.helper.KNOWN_BYTES_MAX", 2000)
    monkeypatch.setattr("agezero.edges.readers._PLACES_MAX", 3)
    for number in range(100):
        helper.answer(b"1 http://a.example/%d GET" % number)
    slots.apply([Purge(1, EVERYTHING)])
    assert len(helper._known) < 10
    assert len(helper._table._places) <= 3
    assert b"/http://a.example/99" in helper.answer(b"1 http://a.example/99 GET")


def test_it_answers_whole_lines_only(helper: Helper) -> None:
    (source, feed), (drain, sink) = os.pipe(), os.pipe()
    os.write(feed, b"1 http://a.example/x GET\n2 http://a.example/y GET\n3 http://a.ex")
    os.close(feed)
    serve(helper.answer, source, sink)
    assert [line.split()[0] for line in os.read(drain, 65536).splitlines()] == [b"1", b"2"]
    for end in (source, drain, sink):
        os.close(end)


def test_as_a_program(slots: SlotFile) -> None:
    command = [sys.executable, "-I", "-m", "agezero.edges.squid.helper"]
    said = subprocess.run([*command, slots.path], input=b"0 http://a.example/ GET\n", capture_output=True, check=True, timeout=60).stdout
    assert said.startswith(b"0 OK ")
    assert "hint" in subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stderr


def test_it_needs_nothing_beyond_the_standard_library() -> None:
    said = "import sys, agezero.edges.squid.helper; print(*{name.split('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    names = subprocess.run([sys.executable, "-I", "-c", said], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    # A distribution may run code of its own at the start of any Python.
    assert {name for name in names if not name.startswith("_")} - {"sitecustomize", "apport_python_hook"} == {"agezero"}
