"""agezero.lua, agezero_url.lua and the core are one: canonical form, hash, look-up, fence, in real LuaJIT, on random input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agezero.core.purge import Purge
from agezero.core.selector import EVERYTHING, Kind, Selector
from agezero.edges import readers
from agezero.edges.slots import SlotFile
from contract.test_edge_js import AUTHORITIES, LONG, SELECTORS, TARGETS, URLS, expected
from support.lua import LuaReader

EXAMPLES = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SLOTS = 2**8
"""Few, so that collisions are common."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "table"


@pytest.fixture
def file(path: Path) -> Iterator[SlotFile]:
    with SlotFile(path, SLOTS) as opened:
        opened.readers.lease(soon_ns())
        yield opened


@pytest.fixture(params=[True, False], ids=["compiled", "interpreted"])
def reader(path: Path, file: SlotFile, request: pytest.FixtureRequest) -> LuaReader:  # noqa: ARG001 - the file comes first
    return LuaReader(path, compiled=request.param)


def soon_ns(seconds: float = 600) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


def apply(file: SlotFile, *selectors: Selector) -> None:
    for selector in selectors:
        file.apply([Purge(file.watermark + 1, selector)])
        file.save(file.watermark + 1, "log-1")


def split(url: str) -> tuple[bytes, bytes]:
    authority, slash, path = url.partition("/")
    return authority.encode(), (slash + path).encode()


def epochs(reader: LuaReader, urls: list[str]) -> list[int | None]:
    answers = [reader.epoch(*split(url)) for url in urls]
    return [None if answer is None else int(answer) for answer in answers]


def differences(reader: LuaReader, pairs: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    return [pair for pair in pairs if (reader.canonical(pair[0].encode(), pair[1]) or "") != expected(*pair)]


@EXAMPLES
@given(st.lists(st.tuples(AUTHORITIES, TARGETS | LONG), min_size=1, max_size=20))
def test_the_canonical_form_is_the_cores(reader: LuaReader, pairs: list[tuple[str, bytes]]) -> None:
    assert differences(reader, pairs) == []


def test_what_is_no_ascii_has_no_canonical_form(reader: LuaReader) -> None:
    assert reader.canonical("münchen.example".encode(), b"/") is None
    assert reader.canonical(b"a.example", b"*") is None
    assert reader.canonical(b"a.example", b"") is None


@EXAMPLES
@given(st.lists(SELECTORS, max_size=8), st.lists(URLS, min_size=1, max_size=20))
def test_the_epoch_is_the_cores(file: SlotFile, reader: LuaReader, selectors: list[Selector], urls: list[str]) -> None:
    for selector in selectors:
        apply(file, selector)
        assert epochs(reader, urls) == [file.table.newest(url) for url in urls]


TAGS = ["sale", "red", "a-much-longer-tag/of_40.characters~or+so"]


@EXAMPLES
@given(
    st.lists(SELECTORS | st.sampled_from(TAGS).map(lambda tag: Selector(Kind.TAG, tag)), max_size=8),
    URLS,
    st.frozensets(st.sampled_from([*TAGS, "blue"])),
)
def test_the_epoch_of_known_tags_is_the_cores(file: SlotFile, reader: LuaReader, selectors: list[Selector], url: str, tags: frozenset[str]) -> None:
    for selector in selectors:
        apply(file, selector)
        known = "0|" + ",".join(str(reader.tag_hash(tag)) for tag in tags)
        assert reader.epoch(*split(url), record=known) == str(file.table.newest_of(url, tags))
        assert reader.epoch(*split(url), record="0|*") == reader.epoch(*split(url)) == str(file.table.newest(url))


def test_a_record_is_a_floor(file: SlotFile, reader: LuaReader) -> None:
    apply(file, Selector(Kind.TAG, "sale"), Selector(Kind.URL, "h/a"))
    newest = file.table.newest("h/a")
    assert reader.epoch(b"h", b"/a", record=f"{newest - 1}|") == str(newest)
    assert reader.epoch(b"h", b"/b", record=f"{newest - 1}|") == str(newest - 1)
    with pytest.raises(Exception, match="nil"):  # which its caller takes for a bypass
        reader.epoch(b"h", b"/b", record="no record")


@pytest.mark.parametrize("number", [2**52 - 1, 2**53 - 1])
def test_a_number_of_53_bits_is_exact(file: SlotFile, reader: LuaReader, number: int) -> None:
    file.base = number - file.watermark - 1
    apply(file, EVERYTHING)
    assert reader.epoch(b"h", b"/") == str(number)


def test_the_memo_is_bounded_and_changes_nothing(file: SlotFile, reader: LuaReader) -> None:
    apply(file, Selector(Kind.URL, "h/7"), Selector(Kind.HOST, "h8"))
    for authority in (b"h", b"h8", b"h"):
        for name in range(9000):
            url = f"{authority.decode()}/{name}"
            assert reader.epoch(authority, f"/{name}".encode()) == str(file.table.newest(url))


def test_without_a_lease_it_is_fenced(file: SlotFile, reader: LuaReader) -> None:
    file.readers.lease(time.monotonic_ns() - 1)
    assert reader.epoch(b"h", b"/") is None
    file.readers.lease(soon_ns())
    assert reader.epoch(b"h", b"/") == "0"  # with the next request


def test_no_file_fences_until_there_is_one(tmp_path: Path) -> None:
    reader = LuaReader(tmp_path / "later")
    assert reader.epoch(b"h", b"/") is None
    assert reader.nonce() is None
    with SlotFile(tmp_path / "later", SLOTS) as file:
        file.readers.lease(soon_ns())
        assert reader.epoch(b"h", b"/") is None  # it looked a moment ago
        reader.look_again()
        assert reader.epoch(b"h", b"/") == "0"


def test_a_replaced_file_is_mapped(path: Path, file: SlotFile, reader: LuaReader) -> None:
    file.close()
    with path.open("r+b") as damaged:  # in place: a file that is cut off while it is mapped ends the process that reads it
        damaged.write(b"no table")
    with SlotFile(path, SLOTS) as new:
        new.readers.lease(soon_ns())
        apply(new, EVERYTHING)
        reader.look_again()
        assert reader.epoch(b"h", b"/") == str(new.table.everything)


@pytest.mark.parametrize("size", [0, 1, 4096, 8192, 8192 + 8 * SLOTS - 8, 8192 + 8 * SLOTS + 8, 8192 + 8 * SLOTS * 2])
def test_a_file_of_another_size_fences(path: Path, file: SlotFile, reader: LuaReader, size: int) -> None:
    whole = path.read_bytes()
    file.readers.lease(0)
    path.with_name("other").write_bytes(whole[:size].ljust(size, b"\0"))
    path.with_name("other").replace(path)
    reader.look_again()
    assert reader.epoch(b"h", b"/") is None


def test_another_kernels_lease_is_none(file: SlotFile, reader: LuaReader) -> None:
    assert reader.epoch(b"h", b"/") is not None
    file.readers._write_kernel("0" * 36)
    assert reader.epoch(b"h", b"/") is None
    assert reader.nonce() is None


def test_gates_that_are_being_written_fence(file: SlotFile, reader: LuaReader) -> None:
    version = readers._VERSION
    file._page[version] += 1
    assert reader.epoch(b"h", b"/") is None
    file._page[version] += 1
    assert reader.epoch(b"h", b"/") is not None


def test_the_nonce_is_the_agents(file: SlotFile, reader: LuaReader) -> None:
    for _ in range(3):
        written = file.readers.challenge()
        assert reader.nonce() == str(written)


def test_two_scripts_may_load_it_in_one_namespace(path: Path, file: SlotFile, reader: LuaReader) -> None:
    table = reader.open(path)
    assert table[b"epoch"](table, b"h", b"/") == str(file.table.newest("h/")).encode()


SAMPLE = [Selector(Kind.URL, "h/a"), Selector(Kind.PREFIX, "h/b/"), Selector(Kind.PREFIX, "h/b?c"), Selector(Kind.HOST, "h:81")]
PROBES = [f"{host}/{path}" for host in ("h", "h:81") for path in ("", "a", "b/", "b/a", "b?c", "b?cd/e", "b/?/", "x/b/a")]
MUTATIONS = {
    "factor": ("FACTOR = 0x2545F491, 1000003", "FACTOR = 0x2545F491, 1000001"),
    "seed": ("FACTOR = 0x2545F491", "FACTOR = 0x2545F492"),
    "kind": ("0x4CF5AD43", "0x4CF5AD42"),
    "slash": ("code == SLASH and slash", "false"),
    "host": ("if gates.host then", "if false then"),
    "length": ("if i == listed then", "if false then"),
    "kept for ever": ("place and place.gates == gates", "place"),
    "not the newest": ("if number > newest then", "if i == 1 then"),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutated_look_up_is_noticed(path: Path, file: SlotFile, name: str) -> None:
    mutant = LuaReader(path, MUTATIONS[name])
    epochs(mutant, PROBES)
    apply(file, *SAMPLE)
    assert epochs(mutant, PROBES) != [file.table.newest(url) for url in PROBES]


SPELLINGS = [
    ("A.example.com:80", b"/a%7eb/../%2e/c d?%2f"),
    ("a.example.com:08080", b"/%e4/./"),
    ("a", b"/a/.b"),
    ("a.", b"/a#b"),
    ("a.-b", b"/"),
    ("a.example.com.", b"/"),
]
SLOPPINESS = {
    "upper case": ("upper(digits)", "digits"),
    "dots": ('if not find(path, "/.", 1, true) then', "if true then"),
    "port": ('port == "80"', 'port == "79"'),
    "trailing dot": ('gsub(host, "%.$", "")', "host"),
    "fragment": ('or find(target, "#", 1, true)', ""),
    "hyphens": ('%.[-.]")', '%.[.]")'),
}


@pytest.mark.parametrize("name", SLOPPINESS)
def test_a_mutated_canonical_form_is_noticed(path: Path, file: SlotFile, name: str) -> None:  # noqa: ARG001
    assert differences(LuaReader(path, SLOPPINESS[name]), SPELLINGS)


FENCES = {
    "lease": ("now < tonumber(words[UNTIL])", "true"),
    "kernel": ("and of_this_kernel(halves)", ""),
    "gates": ("version % 2 == 0 and", ""),
}


@pytest.mark.parametrize("name", FENCES)
def test_a_fence_that_is_off_is_noticed(path: Path, file: SlotFile, name: str) -> None:
    mutant = LuaReader(path, FENCES[name])
    steps: list[tuple[Callable[[], None], Callable[[], None]]] = [
        (lambda: file.readers.lease(1), lambda: file.readers.lease(soon_ns())),
        (lambda: file.readers._write_kernel("0" * 36), lambda: file.readers._write_kernel(readers.kernel_boot_id())),
        (lambda: file._page.__setitem__(readers._VERSION, 1), lambda: file._page.__setitem__(readers._VERSION, 2)),
    ]
    for break_it, mend_it in steps:
        break_it()
        if mutant.epoch(b"h", b"/") is not None:
            return
        mend_it()
    pytest.fail("no fence is missing")
