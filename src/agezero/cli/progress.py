"""How far a purge is, for whoever waits for it: a bar on a terminal, a line whenever something changes everywhere else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from agezero.cli.output import lively, note
from agezero.terminal import harmless

if TYPE_CHECKING:
    from agezero.wire import PurgeDetail


class Display(Protocol):
    """Something that shows progress."""

    def show(self, done: int, total: int, text: str) -> None:
        """``done`` of ``total``, and in words."""
        ...


@contextlib.contextmanager
def display(*, lines: bool = True) -> Iterator[Display]:
    """The one that fits stderr. ``lines``: also say it where nobody watches, such as in the log of a deployment."""
    if not lively():
        yield _Lines() if lines else _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Column

    words = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    bar = BarColumn(bar_width=None, table_column=Column(min_width=8, max_width=24))
    with Progress(bar, words, console=Console(stderr=True), transient=True, expand=True, redirect_stdout=sys.stdout.isatty()) as progress:
        yield _Bar(progress)


def told(detail: PurgeDetail) -> tuple[int, int, str]:
    """What a :class:`Display` shows of a purge: edges that hold it up no more, all edges, and in words who is awaited and why."""
    awaited = [f"{edge.name} ({edge.why or 'still applying'})" for edge in detail.edges if edge.state == "pending"]
    fenced = [edge.name for edge in detail.edges if edge.state == "fenced"]
    total = len(detail.edges)
    words = [f"{total - len(awaited) - len(fenced)} of {total} edges confirmed"]
    words += [f"fenced: {', '.join(fenced)}"] * bool(fenced) + [f"awaited: {', '.join(awaited)}"] * bool(awaited)
    return total - len(awaited), total, "; ".join(words)


def goes_on(purge_id: str) -> str:
    """For who waits no longer."""
    return f"it goes on; `agezero status {purge_id} --wait` waits for it"


class _Bar:
    def __init__(self, progress: object) -> None:
        from rich.progress import Progress

        assert isinstance(progress, Progress)
        self._progress = progress
        self._task = progress.add_task("", total=None)

    def show(self, done: int, total: int, text: str) -> None:
        self._progress.update(self._task, completed=done, total=total, description=harmless(text))


class _Lines:
    def __init__(self) -> None:
        self._said = ""

    def show(self, done: int, total: int, text: str) -> None:  # noqa: ARG002 (a Display)
        if text != self._said:
            note(text)
            self._said = text


class _Silent:
    def show(self, done: int, total: int, text: str) -> None:
        pass
