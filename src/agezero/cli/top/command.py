"""The command ``agezero top``."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from agezero.cli.options import DEFAULT_URL, Json, PrivateKey, ServiceUrl, Timeout, required_key
from agezero.cli.output import CommandFailed, json_lines, lively
from agezero.cli.times import span

if TYPE_CHECKING:
    from rich.console import Console

    from agezero.cli.client import Client
    from agezero.cli.top.snapshot import Snapshot

ENDS = frozenset("qQ\x03\x04")
COLUMNS = 80
LINES = 60
"""Of a snapshot that goes into a file."""


def top(  # noqa: PLR0913, PLR0917 (each is a flag)
    every: Annotated[float, typer.Option(metavar="TIME", parser=span, show_default=False, help="How often to look. [default: 1s]")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Print what is now, and end.")] = False,
    url: ServiceUrl = DEFAULT_URL,
    key: PrivateKey = "",
    timeout: Timeout = 10,
    json: Json = False,
) -> None:
    """Watch the fleet and its purges live; q ends it.

    Edges that are not well and purges that are pending stand first. Without a terminal, or with --once or --json, it prints what is now and ends.

    Examples:
        agezero top
        agezero top --every 5s
        agezero top --once
        agezero top --json | jq '.edges[].lag'
    """
    from agezero.cli.top.snapshot import take

    required_key(key)
    looker = _Looker(url, key, timeout)
    with looker.client() as client:
        first = take(client)
    if json:
        json_lines([{"edges": first.edges, "pending": first.pending, "purges": first.purges}])
    elif once or not lively(sys.stdout):
        from agezero.cli.top.view import view

        console = _console()
        console.print(view(first, None, looker.title(), (console.width, LINES)))
    else:
        looker.live(first, every)


class _Looker:
    """Looks in a thread of its own, so that a service that does not answer keeps no key from being heard."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._url = url
        self._key = key
        self._timeout_s = timeout_s
        self._stop = threading.Event()
        self._now: tuple[Snapshot, Snapshot | None, str] | None = None

    def client(self) -> Client:
        from agezero.cli.client import Client

        return Client(self._url, self._key, time.monotonic() + self._timeout_s)

    def title(self) -> str:
        return f"agezero top · {self._url} · {datetime.now().astimezone():%H:%M:%S}"

    def live(self, first: Snapshot, every_s: float) -> None:
        from rich.live import Live

        from agezero.cli.top.view import view

        self._now = (first, None, "")
        threading.Thread(target=self._look, args=(every_s,), daemon=True).start()
        console = _console()
        try:
            with _signals() as signals, _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
                while not signals and not pressed(0.2) & ENDS:
                    now, before, trouble = self._now
                    live.update(view(now, before, f"{self.title()} · q ends", (console.width, console.height), trouble), refresh=True)
        finally:
            self._stop.set()

    def _look(self, every_s: float) -> None:
        from agezero.cli.top.snapshot import take

        while not self._stop.wait(max(0.1, every_s)):
            assert self._now is not None
            now, before, _ = self._now
            try:
                with self.client() as client:
                    self._now = (take(client), now, "")
            except CommandFailed as failure:
                self._now = (now, before, f"{failure.message}: this is what was known before")
            except Exception as bug:
                self._now = (now, before, f"this is a bug in agezero: {bug!r}")


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Those that have come and end it. Not as a KeyboardInterrupt, which is lost where it is raised in a callback, as of an import."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], set[str]]]:
    """What is pressed within so many seconds, key by key, without Enter; nothing where nobody can press."""
    if not sys.stdin.isatty():
        yield _nothing
        return
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def pressed(wait_s: float) -> set[str]:
        ready, _, _ = select.select([descriptor], [], [], wait_s)
        return set(os.read(descriptor, 64).decode("latin-1") or "\x04") if ready else set()

    try:
        tty.setcbreak(descriptor)
        yield pressed
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _nothing(wait_s: float) -> set[str]:
    time.sleep(wait_s)
    return set()


def _console() -> Console:
    from rich.console import Console

    return Console() if lively(sys.stdout) else Console(width=shutil.get_terminal_size((COLUMNS, LINES)).columns, color_system=None)
