"""`agezero top`: on a real terminal of 80 columns, into a file, and with a service that goes away."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from agezero.cli.main import run
from agezero.cli.output import Exit
from agezero.cli.top.snapshot import Snapshot
from agezero.cli.top.view import view
from agezero.control import EdgeView
from agezero.wire import Edge, Named, Purge
from support.api import ENDPOINT, KEY, Api, running_api
from support.ports import free_address
from support.waiting import wait_for

AGEZERO = Path(sys.executable).with_name("agezero")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def api() -> Iterator[Api]:
    with running_api() as running:
        running.purges.fleet = [EdgeView("shield", "leased", 0, 9, 0, (), ""), EdgeView("front", "fenced", 1, 7, 2, (), "connection refused")]
        yield running


@dataclass
class Screen:
    """A terminal with a program on it. ``text``: all that was ever written to it, without what moves and paints."""

    process: subprocess.Popen[bytes]
    keyboard: int
    raw: bytes = b""
    modes: list[object] = field(default_factory=list)

    @property
    def text(self) -> str:
        with contextlib.suppress(OSError):  # EIO: the program is gone
            self.raw += os.read(self.keyboard, 65536)
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.raw.decode(errors="replace"))

    def shows(self, words: str) -> None:
        wait_for(lambda: words in self.text, f"{words!r} on the screen", 60)


@contextlib.contextmanager
def screen(url: str, *arguments: str) -> Iterator[Screen]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    env |= {"AGEZERO_URL": url, "AGEZERO_PRIVATE_KEY": KEY, "TERM": "xterm-256color"}
    process = subprocess.Popen([AGEZERO, "top", *arguments], env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.set_blocking(master, False)
    here = Screen(process, master, modes=termios.tcgetattr(slave))
    try:
        yield here
        assert termios.tcgetattr(slave) == here.modes, "the terminal is left as it was found"
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def test_it_shows_the_fleet_and_a_purge_as_it_comes_and_q_ends_it(api: Api) -> None:
    with screen(api.url, "--every", "100ms") as here:
        here.shows("q ends")
        here.shows("2 edges, 1 fenced")
        here.shows("connection refused")
        purge = api.client.post("/v1/purges", json={"urls": [f"{ENDPOINT}/seen-live.jpg"], "tags": ["t"]}).json()
        here.shows(purge["id"])
        here.shows("+1 …")
        here.shows("/seen-live.jpg")
        os.write(here.keyboard, b"q")
        assert here.process.wait(60) == Exit.OK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(api: Api, number: signal.Signals) -> None:
    with screen(api.url) as here:
        here.shows("q ends")
        here.process.send_signal(number)
        assert here.process.wait(60) == Exit.OK
        wait_for(lambda: here.text and here.raw.endswith(b"\x1b[?25h\x1b[?1049l"), "the cursor is shown, and what was on the screen before")


def test_a_service_that_goes_away_is_said_and_what_was_known_is_still_shown() -> None:
    with contextlib.ExitStack() as service:
        running = service.enter_context(running_api())
        running.purges.fleet = [EdgeView("shield", "leased", 0, 9, 0, (), "")]
        with screen(running.url, "--every", "100ms", "--timeout", "200ms") as here:
            here.shows("shield")
            service.close()
            here.shows("no answer from")
            os.write(here.keyboard, b"q")
            assert here.process.wait(60) == Exit.OK


def test_without_a_terminal_it_prints_what_is_now(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("AGEZERO_URL", api.url)
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
    monkeypatch.delenv("COLUMNS", raising=False)
    purge = api.client.post("/v1/purges", json={"tags": ["snapshot"], "note": "why"}).json()
    capsys.readouterr()
    assert run(["top"]) == Exit.OK
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert max(map(len, said.splitlines())) <= 80
    assert re.search(rf"^\S+ +{purge['id']} +(pending|completed) .*tag snapshot \(why\)", said, re.MULTILINE)
    assert said.index("front ") < said.index("shield "), "what is not well stands first"
    assert run(["top", "--json"]) == Exit.OK
    assert [edge["name"] for edge in json.loads(capsys.readouterr().out)["edges"]] == ["shield", "front"]
    monkeypatch.setenv("AGEZERO_URL", f"http://{free_address()}")
    assert run(["top"]) == Exit.UNREACHABLE


@pytest.mark.parametrize("columns", ["", "0", "-1", "wide"])
def test_a_width_that_is_none_is_eighty(api: Api, monkeypatch: pytest.MonkeyPatch, capsys: Capture, columns: str) -> None:
    monkeypatch.setenv("AGEZERO_URL", api.url)
    monkeypatch.setenv("AGEZERO_PRIVATE_KEY", KEY)
    monkeypatch.setenv("COLUMNS", columns)
    assert run(["top", "--once"]) == Exit.OK
    assert max(map(len, capsys.readouterr().out.splitlines())) == 80


def _edge(number: int, state: str = "leased") -> Edge:
    return Edge(f"edge-with-quite-a-long-name-{number:04}", state, 0, 123_456_789 + number, 1_234, (), "a long story [/red] of trouble " * 4)


def _purge(number: int, state: str) -> Purge:
    done = "2026-01-31T12:00:01.500Z" if state == "completed" else None
    named = [Named("url", "cdn.example.com/a/very/long/path/" + "x" * 200)]
    return Purge(f"{number:024x}", state, "hard", named, 1_000, "note\nin lines", "k", "2026-01-31T12:00:00.000Z", done)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (200, 60), (20, 5)])
def test_nothing_is_wider_or_higher_than_the_screen(width: int, height: int) -> None:
    edges = [_edge(number, "fenced" if number == 77 else "leased") for number in range(100)]
    purges = [_purge(number, "completed") for number in range(100)]
    pending = [_purge(1_000 + number, "pending") for number in range(3)]
    now = Snapshot(2, edges, pending, [*pending, *purges])
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(view(now, Snapshot(1, edges[:1], (), ()), "agezero top " * 20, (width, height)))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= height or height < 10
    if width >= 80:
        assert any("0077" in line or "fenced" in line for line in lines)
        assert "p50 1.5 s, p99 1.5 s" in captured.get()
        assert "99.0 purges/s" in captured.get()


def test_a_hostile_note_does_nothing_to_the_terminal() -> None:
    hostile = msgspec.structs.replace(_purge(1, "pending"), note="\x1b[2J", selectors=[])
    edge = msgspec.structs.replace(_edge(1), trouble="\x1b]0;x\x07")
    shown = io.StringIO()
    Console(file=shown, width=200, color_system=None).print(view(Snapshot(0, [edge], [hostile], []), None, "title", (200, 30)))
    assert not set("\x1b\x07") & set(shown.getvalue())
    assert "(\\x1b[2J)" in shown.getvalue()


def test_an_empty_service_says_what_to_do_first() -> None:
    console = Console(width=80, file=io.StringIO())
    with console.capture() as captured:
        console.print(view(Snapshot(1, (), (), ()), None, "agezero top", (80, 24), trouble="no answer"))
    assert "no edges: `agezero up`" in captured.get()
    assert "no purges yet: agezero purge URL" in captured.get()
    assert "no answer" in captured.get()
